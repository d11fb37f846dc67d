import type { QueryOptions } from '../queries/query.js';

/** How the daemon is upgraded. */
export interface UpgradeOptions extends QueryOptions {
  readonly check?: boolean;
  readonly force?: boolean;
}
