import type { QmpEvent } from '@xenpv/qmp';
import { isJobEvent } from './monitor/jobs.js';

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
  | { readonly kind: 'stuck'; readonly pid: number | undefined }
  /** A block job has got so far, in QEMU's words. */
  | { readonly kind: 'job-status'; readonly id: string; readonly status: string }
  /** A block job has copied all, and goes on with what is written, until it is completed or cancelled. */
  | { readonly kind: 'job-ready'; readonly job: EndedJob }
  /** A block job has ended: `offset` of its `len` bytes are done. */
  | { readonly kind: 'job-ended'; readonly job: EndedJob }
  /** Somebody has cancelled it, or what is given as the reason. */
  | { readonly kind: 'job-cancelled'; readonly job: EndedJob; readonly reason?: string }
  | { readonly kind: 'job-failed'; readonly job: EndedJob; readonly reason: string };

export interface EndedJob {
  readonly id: string;
  readonly type: string;
  /** Both 0 of one that ended unseen. */
  readonly offset: number;
  readonly len: number;
}

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

  /** An event of its monitor; `reason` is why a job has failed of which QEMU does not know that. */
  monitorSays(event: QmpEvent, reason?: string): void {
    if (!isJobEvent(event)) return;
    const { device: id, type, offset, len, error, status } = event.data as Record<string, never>;
    const why = error ?? reason;
    const job = { id, type, offset, len };
    if (event.event === 'JOB_STATUS_CHANGE')
      this.#listener({ kind: 'job-status', id: (event.data as { id: string }).id, status });
    else if (event.event === 'BLOCK_JOB_READY') this.#listener({ kind: 'job-ready', job });
    // QEMU gives none with a cancelled one: it was stopped, together with its helper.
    else if (error !== undefined && event.event === 'BLOCK_JOB_CANCELLED')
      this.#listener({ kind: 'job-cancelled', job, reason: error });
    else if (why !== undefined) this.#listener({ kind: 'job-failed', job, reason: why });
    else this.#listener({ kind: event.event === 'BLOCK_JOB_CANCELLED' ? 'job-cancelled' : 'job-ended', job });
  }

  stuck(pid: number | undefined): void {
    this.#listener({ kind: 'stuck', pid });
  }
}
