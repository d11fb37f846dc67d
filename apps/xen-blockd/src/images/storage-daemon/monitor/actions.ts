import type { QmpClient } from '@xenpv/qmp';

/** A command of QEMU that may be part of a transaction. */
export interface HelperAction {
  readonly type: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** Has a helper do one thing, at once or together with others. Rejects if it was not done. */
export type CarryOut = (monitor: QmpClient, action: HelperAction) => Promise<unknown>;

export const atOnce: CarryOut = (monitor, { type, data }) => monitor.execute(type, data);
