import { wholeNumber } from './numbers.js';

/** Bits of an access: what io/xs_wire.h and libxenstore call XS_PERM_READ and XS_PERM_WRITE. */
export const Access = { none: 0, read: 1, write: 2, owner: 4 } as const;

const ALL = Access.read | Access.write | Access.owner;
const LETTERS = ['n', 'r', 'w', 'b'];

/** One permission of a node; the first of a node names its owner, and what domains that are not listed may do. */
export interface NodePermission {
  readonly domid: number;
  /** {@link Access} bits. */
  readonly access: number;
  /** The domain is gone: the entry is still listed, but a later domain of the same number gains nothing by it. */
  readonly stale: boolean;
}

/** Who asks: a domain, and the one that it serves as a device model (SET_TARGET). */
export interface Requester {
  readonly domid: number;
  readonly target: number | undefined;
}

/** What `requester` may do to a node with these permissions, as {@link Access} bits. */
export function accessOf(permissions: readonly NodePermission[], requester: Requester): number {
  const { domid, target } = requester;
  const owner = permissions[0];
  if (domid === 0 || owner.domid === domid || owner.domid === target) return ALL;
  for (let i = 1; i < permissions.length; i++) {
    const entry = permissions[i];
    if (!entry.stale && (entry.domid === domid || entry.domid === target)) return entry.access;
  }
  return owner.access;
}

/** Permissions as on the wire: `n0`, `r5`, each with a NUL. */
export function encodePermissions(permissions: readonly NodePermission[]): string {
  return permissions.map((entry) => `${LETTERS[entry.access]}${entry.domid | 0}\0`).join('');
}

/** Reads one permission as a client sent it, numbers as C reads them, or undefined. */
export function decodePermission(text: string): NodePermission | undefined {
  const access = LETTERS.indexOf(text[0] ?? '');
  const domid = wholeNumber(text.slice(1));
  return access < 0 || domid === undefined ? undefined : { access, domid: domid >>> 0, stale: false };
}
