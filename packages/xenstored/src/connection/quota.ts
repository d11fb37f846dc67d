/**
 * What an unprivileged domain may use of xenstore. For domain 0 only the length of paths is limited. The defaults are those of the C daemon
 * (tools/xenstored), and so are the errors: some limits admit one more than they say, as theirs do.
 */
export interface XenstoredQuotas {
  /** Nodes that a domain may own; ENOSPC. */
  readonly nodes: number;
  /** Watches of a domain; one more is admitted; E2BIG. */
  readonly watches: number;
  /** Open transactions of a domain; one more is admitted; ENOSPC. */
  readonly transactions: number;
  /** Nodes that one transaction may touch; ENOSPC. */
  readonly transactionNodes: number;
  /** Bytes of one node: its value, the names of its children, 8 for each permission and 24; must stay below; ENOSPC. */
  readonly nodeBytes: number;
  /** Entries in the permissions of a node; ENOSPC. */
  readonly permissions: number;
  /** Length of a path, not counting `/local/domain/N/`; for domain 0 too; EINVAL. */
  readonly pathBytes: number;
  /** Replies, and events caused for others, that nobody has taken yet; further requests wait. */
  readonly outstanding: number;
  /** Bytes of output that wait for a domain; further events are dropped. */
  readonly outputBytes: number;
}

export const DEFAULT_XENSTORED_QUOTAS: XenstoredQuotas = {
  nodes: 1000,
  watches: 128,
  transactions: 10,
  transactionNodes: 1024,
  nodeBytes: 2048,
  permissions: 5,
  pathBytes: 2048,
  outstanding: 20,
  outputBytes: 2.5 * 1024 * 1024,
};

/** The limits in force, which CONTROL and SET_QUOTA change. */
export type MutableQuotas = { -readonly [Name in keyof XenstoredQuotas]: number };

/** A quota as clients name it, and what CONTROL says of it. */
interface QuotaName {
  readonly name: string;
  readonly key: keyof XenstoredQuotas;
  readonly description: string;
}

/** In the C daemon's order. */
export const QUOTA_NAMES: readonly QuotaName[] = [
  { name: 'nodes', key: 'nodes', description: 'Nodes per domain' },
  { name: 'watches', key: 'watches', description: 'Watches per domain' },
  { name: 'transactions', key: 'transactions', description: 'Transactions per domain' },
  { name: 'outstanding', key: 'outstanding', description: 'Outstanding requests per domain' },
  { name: 'transaction-nodes', key: 'transactionNodes', description: 'Accessed nodes per transaction' },
  { name: 'memory', key: 'outputBytes', description: 'Waiting output per domain' },
  { name: 'node-size', key: 'nodeBytes', description: 'Size of a node' },
  { name: 'path-max', key: 'pathBytes', description: 'Length of a node path' },
  { name: 'permissions', key: 'permissions', description: 'Permissions per node' },
];

/** The quota of this name. */
export function quotaKey(name: string): keyof XenstoredQuotas | undefined {
  return QUOTA_NAMES.find((quota) => quota.name === name)?.key;
}

const INFINITE = Number.POSITIVE_INFINITY;

/** Limits of a domain: the common ones where it has none of its own. */
export function quotasOf(common: MutableQuotas, privileged: boolean): MutableQuotas {
  const quotas = Object.create(common) as MutableQuotas;
  if (!privileged) return quotas;
  for (const { key } of QUOTA_NAMES) if (key !== 'pathBytes') quotas[key] = INFINITE;
  return quotas;
}
