/**
 * What an unprivileged domain may use of xenstore. For domain 0 only the length of paths is limited. The defaults are
 * those of the C daemon (tools/xenstored), and so are the errors: some limits admit one more than they say, as theirs
 * do.
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

/** The quotas of a domain that was given no others. */
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
