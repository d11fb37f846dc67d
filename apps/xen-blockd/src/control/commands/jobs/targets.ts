/** What disks are copied to, as QEMU's clients name it. */
import { statSync } from 'node:fs';
import { QmpError, type QmpMembers } from '@xenpv/qmp';
import { IMAGE_FORMATS } from '@xenpv/xen-block';
import { FileTarget } from '../../../images/copy/file-target.js';
import { ServerTarget } from '../../../images/copy/server-target.js';
import type { CopyTarget } from '../../../images/copy/target.js';
import { checkServer } from '../../../images/image-opener.js';
import { nbdTarget } from '../../../images/nbd-target.js';
import { formatOf } from '../../../images/storage-daemon/arguments.js';
import type { ControlContext } from '../../controlled.js';

/** stat(2)'s. */
const BYTES_OF_BLOCK = 512;

/** Of the commands whose target is a file or a server. */
export const TARGET_MEMBERS = {
  'format?': { enum: ['raw', 'vpc', ...IMAGE_FORMATS] },
  'mode?': { enum: ['absolute-paths', 'existing'] },
} as const satisfies QmpMembers;

export interface NamedTarget {
  /** A whole path, or an NBD server. */
  readonly name: string;
  readonly format: string;
  readonly mode: 'create' | 'existing';
}

interface TargetRequest {
  readonly target: NamedTarget;
  /** Of the helper that copies. */
  readonly folder: string;
  /** The disk's image. */
  readonly source: string;
  /** Bytes of the disk. */
  readonly size: number;
  /** Bytes that there are to copy, or about that. */
  readonly bytes: number;
  /** Bytes that a file is made long, at least. */
  readonly room?: number | undefined;
}

/** A file that is made, or a file, device or server that is there. */
export function driveTarget(
  name: string,
  {
    format = 'qcow2',
    mode = 'absolute-paths',
  }: { readonly format?: string | undefined; readonly mode?: string | undefined },
): NamedTarget {
  return { name, format: formatOf(format), mode: mode === 'existing' ? 'existing' : 'create' };
}

/** What blockdev-add has named: it is there. Error: QmpError. */
export function nodeTarget({ nodes }: ControlContext, node: string): NamedTarget {
  const { filename: name, format, readOnly, backing } = nodes.get(node);
  if (readOnly) throw QmpError.refusal(`Node ${node} is read-only`);
  if (backing !== undefined) throw QmpError.refusal(`Node ${node} takes a backup with sync none, and nothing else`);
  return { name, format, mode: 'existing' };
}

/** Errors: as FileTarget.open and ServerTarget.open; QmpError. */
export async function openTarget(
  { imagePolicy }: ControlContext,
  { target: { name: path, format, mode }, ...rest }: TargetRequest,
): Promise<CopyTarget> {
  const policy = imagePolicy();
  const server = nbdTarget(path);
  if (!server) return FileTarget.open({ path, format, mode, policy, ...rest });
  if (mode === 'create') throw QmpError.refusal(`${path}: a server's export is there already: expected mode existing`);
  checkServer(server.address, path, policy);
  return ServerTarget.open(server, { target: path, folder: rest.folder });
}

/** As much as an image has taken so far. */
export function bytesTaken(path: string): number {
  const { blocks = 0 } = statSync(path, { throwIfNoEntry: false }) ?? {};
  return BYTES_OF_BLOCK * blocks;
}
