/** What keeps a device that was Connected from being served. */
export interface HeldDevice {
  /** In words, one line. */
  readonly reason: string;
  readonly since: Date;
  /** Tries that failed since then. */
  readonly attempts: number;
}
