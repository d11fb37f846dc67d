/** What an operator is to know of a storage daemon. */
export type StorageDaemonEvent =
  /** It ran and has ended, or it could not be started again; another start follows. */
  | { readonly kind: 'ended' | 'refused'; readonly reason: string; readonly failures: number }
  /** It runs again, `downMs` milliseconds after it ended. */
  | { readonly kind: 'running'; readonly failures: number; readonly downMs: number }
  /** One of an earlier process goes on, or cannot, so that it is killed. */
  | { readonly kind: 'adopted'; readonly pid: number }
  | { readonly kind: 'unusable'; readonly pid: number; readonly reason: string }
  /** It is started with all the rights of this process, which is root. */
  | { readonly kind: 'uncaged'; readonly reason: string }
  /** It was killed and does not end. */
  | { readonly kind: 'stuck'; readonly pid: number | undefined };

export type StorageDaemonListener = (event: StorageDaemonEvent) => void;

/**
 * Tells of a row of failures: of those whose number is a power of two, so that a row without an end does not fill a
 * log, and of the end of a row that was told of.
 */
export class FailureReport {
  readonly #listener: StorageDaemonListener;
  #told = false;
  #toldUncaged = false;

  constructor(listener: StorageDaemonListener = () => {}) {
    this.#listener = listener;
  }

  failed(kind: 'ended' | 'refused', reason: string, failures: number): void {
    if ((failures & (failures - 1)) !== 0) return;
    this.#told = true;
    this.#listener({ kind, reason, failures });
  }

  running(failures: number, downMs: number): void {
    if (this.#told) this.#listener({ kind: 'running', failures, downMs });
    this.#told = false;
  }

  adopted(pid: number): void {
    this.#listener({ kind: 'adopted', pid });
  }

  unusable(pid: number, reason: string): void {
    this.#listener({ kind: 'unusable', pid, reason });
  }

  /** Once. */
  uncaged(reason: string): void {
    if (!this.#toldUncaged) this.#listener({ kind: 'uncaged', reason });
    this.#toldUncaged = true;
  }

  stuck(pid: number | undefined): void {
    this.#listener({ kind: 'stuck', pid });
  }
}
