import { type QmpClient, QmpError } from '@xenpv/qmp';
import type { CarryOut, HelperAction } from '../../../images/storage-daemon/monitor/actions.js';
import { TRIED_JOB } from '../../../images/storage-daemon/monitor/jobs.js';

/** What QEMU says of a transaction that has come to its action `abort`: all before it would have been done. */
const ABORTED = 'Transaction aborted using Abort action';

interface Member {
  readonly monitor: QmpClient;
  readonly action: HelperAction;
}

/** Disks that do not move. */
export interface Still {
  /** Aborted when the client goes: what has not begun is not done then. What has begun is, as it is by QEMU. */
  readonly client: AbortSignal;
  /** Aborted when they move again: what is done then is of another instant. */
  readonly late: AbortSignal;
}

export const LATE = 'a disk has requests that its storage does not answer, or a storage helper that does not answer';

interface TogetherOptions {
  /** All is tried, and nothing is done. */
  readonly isAborted: boolean;
  /** Runs what it is given while the disks stand still. Rejects when that is not to be had. */
  readonly still: (run: (still: Still) => Promise<void>) => Promise<void>;
}

/**
 * Actions that are prepared one by one, and carried out in their order when the last one is ready; or none, when one fails
 * before. Each helper has a transaction of its own. Where there are several, each is tried before the first one is done.
 */
export class Together {
  /** All is done, or nothing and why. */
  readonly done: Promise<void>;
  readonly #options: TogetherOptions;
  readonly #members: (Member | undefined)[];
  #resolve!: (done: Promise<void> | undefined) => void;
  #reject!: (reason: unknown) => void;
  #missing: number;

  constructor(size: number, options: TogetherOptions) {
    this.#options = options;
    this.#members = new Array(size).fill(undefined);
    this.#missing = size;
    this.done = new Promise((resolve, reject) => {
      [this.#resolve, this.#reject] = [resolve, reject];
    });
    this.done.catch(() => {});
    if (size === 0) this.#begin();
  }

  /** Carries an action out when all others are ready too. */
  member(index: number): CarryOut {
    return (monitor, action) => {
      this.#members[index] = { monitor, action };
      this.#missing--;
      if (this.#missing === 0) this.#begin();
      return this.done;
    };
  }

  /** One cannot be prepared. Changes nothing when it is known by now what has become of all. */
  fail(reason: unknown): void {
    this.#reject(reason);
  }

  #begin(): void {
    this.#resolve(this.#options.still((still) => this.#carryOut(still)));
  }

  async #carryOut(still: Still): Promise<void> {
    const { isAborted } = this.#options;
    const byHelper = new Map<QmpClient, HelperAction[]>();
    for (const member of this.#members) {
      if (!member) continue;
      byHelper.set(member.monitor, [...(byHelper.get(member.monitor) ?? []), member.action]);
    }
    if (isAborted || byHelper.size > 1)
      for (const [monitor, actions] of byHelper) await tryOut(monitor, actions, still);
    if (isAborted) throw QmpError.refusal(ABORTED);
    still.client.throwIfAborted();
    await carryOutAll([...byHelper], still);
  }
}

type HelperActions = readonly [QmpClient, readonly HelperAction[]];

/** From here on the client's leave changes nothing: half of it would be done. */
async function carryOutAll(all: readonly HelperActions[], { late }: Still): Promise<void> {
  const finished: HelperActions[] = [];
  try {
    for (const each of all) {
      const [monitor, actions] = each;
      throwIfLate(late);
      // A helper does what it was told, whether its answer is waited for or not.
      await monitor.execute('transaction', { actions });
      finished.push(each);
    }
    throwIfLate(late);
  } catch (error) {
    for (const each of finished) await undo(...each);
    throw partlyDone(
      finished.flatMap(([, done]) => done),
      error as Error,
    );
  }
}

function throwIfLate(late: AbortSignal): void {
  if (late.aborted) throw QmpError.refusal(LATE);
}

/** Error: what QEMU does not do of it. */
async function tryOut(monitor: QmpClient, actions: readonly HelperAction[], { client, late }: Still): Promise<void> {
  const tried = actions.map(({ type, data }) => ({
    type,
    data: data['job-id'] === undefined ? data : { ...data, 'job-id': TRIED_JOB },
  }));
  const abort = { type: 'abort', data: {} };
  const signal = AbortSignal.any([client, late]);
  try {
    await monitor.execute('transaction', { actions: [...tried, abort] }, { signal });
  } catch (error) {
    throwIfLate(late);
    if ((error as Error).message !== ABORTED) throw error;
  }
}

const FOR_GOOD: readonly string[] = ['clear', 'remove', 'merge', 'enable', 'disable'].map(
  (name) => `block-dirty-bitmap-${name}`,
);

/** What a bitmap had forgotten it does not know again; nor is it known what it was before it was enabled. */
function partlyDone(done: readonly HelperAction[], error: Error): Error {
  const stays = done
    .filter(({ type }) => FOR_GOOD.includes(type))
    .map(({ type, data }) => `${type} of ${data.name ?? data.target}`);
  if (stays.length === 0) return error;
  return QmpError.refusal(`${error.message}; of another disk is done and stays so: ${stays.join(', ')}`);
}

/** For another helper has failed what it had just tried, as when it was killed. */
async function undo(monitor: QmpClient, actions: readonly HelperAction[]): Promise<void> {
  for (const { type, data } of [...actions].reverse()) {
    const { node, name } = data;
    if (data['job-id'] !== undefined) {
      await monitor.execute('block-job-cancel', { device: data['job-id'], force: true }).catch(() => {});
    } else if (type === 'block-dirty-bitmap-add') {
      await monitor.execute('block-dirty-bitmap-remove', { node, name }).catch(() => {});
    }
  }
}
