import type { NodePermission, Requester } from './permissions.js';
import type { XenstoredQuotas } from './quotas.js';

/** A domain as the tree knows it: who it is, the nodes that it owns, and its limits. */
export interface NodeOwner extends Requester {
  /** Domain 0: may do everything, and only the length of its paths is limited. */
  readonly privileged: boolean;
  /** Paths of the nodes that it owns; not kept for domain 0, which owns most. */
  readonly owned: Set<string>;
  readonly quotas: XenstoredQuotas;
}

/** The domains as the store asks for them. */
export interface NodeOwners {
  /** A domain that xenstored has heard of. */
  get(domid: number): NodeOwner | undefined;
  /** The domain, if it exists: one that was not heard of before begins here. */
  open(domid: number): NodeOwner | undefined;
  /** Permissions of a node written at `generation`, as they count now. */
  current(permissions: readonly NodePermission[], generation: number): readonly NodePermission[];
}
