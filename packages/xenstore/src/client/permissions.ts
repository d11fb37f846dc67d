import type { Domid } from '@xenpv/xen-sys';
import { XenstoreError } from '../errors.js';

/** What a domain may do with a node: `n` nothing, `r` read, `w` write, `b` both. */
export type PermissionAccess = 'n' | 'r' | 'w' | 'b';

/** One entry of a node's permissions. The first of a node has a meaning of its own. */
export interface Permission {
  /** In the first entry the owner, who may do everything with the node; in others the domain that `access` is for. */
  readonly domid: Domid;
  /** In the first entry what all domains that are not listed may do; in others what `domid` may do. */
  readonly access: PermissionAccess;
}

const PERMISSION = /^([nrwb])(0|[1-9][0-9]{0,4})$/;
const MAX_DOMID = 0xffff;

/** Reads `r5`, as it is on the wire and on the command line. A permission, or undefined. */
export function parsePermission(text: string): Permission | undefined {
  const match = PERMISSION.exec(text);
  if (match === null || Number(match[2]) > MAX_DOMID) return undefined;
  return { access: match[1] as PermissionAccess, domid: Number(match[2]) };
}

/** Writes a permission as on the wire: `r5`. */
export function formatPermission(permission: Permission): string {
  return `${permission.access}${permission.domid}`;
}

/** Throws `ERR_INVALID_ARGUMENT` unless `permissions` may be set on a node: an owner first, known letters, domids. */
export function checkPermissions(permissions: readonly Permission[], path: string): void {
  const wrong = permissions.find((entry) => parsePermission(formatPermission(entry)) === undefined);
  if (permissions.length > 0 && wrong === undefined) return;
  const message =
    wrong === undefined
      ? 'permissions need at least one entry, the owner'
      : `${JSON.stringify(formatPermission(wrong))} is no permission; one is n, r, w or b and a domain number`;
  throw new XenstoreError('ERR_INVALID_ARGUMENT', 'setPermissions', message, { path });
}
