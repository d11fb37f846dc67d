/** What keeps a device that was Connected from being served. */
export interface HeldDevice {
  /** In words, one line. */
  readonly reason: string;
  /** When the first try failed, or the device was lost. */
  readonly since: Date;
  /** Tries that failed since then. */
  readonly attempts: number;
}
