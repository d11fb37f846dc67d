/**
 * Disks served over NBD while their guests use them, as backup tools ask QEMU for it (QEMU's qapi/block-export.json): data, what is a
 * hole, and what dirty bitmaps have noted.
 */
import { type QmpCommand, QmpError, type QmpMembers, qmpCommand } from '@xenpv/qmp';
import type { BlockDevice } from '@xenpv/xen-block';
import { deviceName } from '@xenpv/xenbus';
import { PulledBackup } from '../../images/copy/pulled-backup.js';
import { lentImageOf } from '../../images/lent-image.js';
import { helperOf } from '../../images/storage-daemon/format-image.js';
import {
  ALLOCATION_DEPTH,
  type StatusChoice,
  StatusExport,
} from '../../images/storage-daemon/monitor/status-export.js';
import type { BlockNode } from '../block-nodes.js';
import { type ControlContext, namedDisk, nodeNameOf } from '../controlled.js';
import type { DiskExports, ExportStatus, NewExport } from '../exports/disk-exports.js';
import { nbdListenAddress } from '../exports/nbd-address.js';
import { openNodeImage } from '../exports/node-image.js';
import { helperNeeded } from './jobs/bitmaps.js';

const ADDRESS = {
  type: { enum: ['unix', 'inet'] },
  data: { object: { 'path?': 'str', 'host?': 'str', 'port?': 'str' } },
} as const satisfies QmpMembers;

const MODE = { enum: ['safe', 'hard'] } as const;

/** Of both commands. */
const EXPORT = { 'name?': 'str', 'description?': 'str', 'writable?': 'bool' } as const satisfies QmpMembers;

interface ExportRequest {
  readonly id: string;
  /** A disk, or its node. */
  readonly device: string;
  readonly name: string;
  readonly description?: string | undefined;
  readonly writable: boolean;
  /** QEMU's BlockDirtyBitmapOrStr. */
  readonly bitmaps: readonly unknown[];
  readonly allocationDepth?: boolean | undefined;
}

export function exportCommands(controlled: ControlContext, exports: DiskExports): Record<string, QmpCommand> {
  const remove = (id: string, mode: 'safe' | 'hard' = 'safe') => exports.remove(id, mode);
  return {
    /** Starts the one NBD server, on a Unix socket or a port of localhost. */
    'nbd-server-start': qmpCommand({
      members: {
        addr: { object: ADDRESS },
        'tls-creds?': 'str',
        'tls-authz?': 'str',
        'max-connections?': 'size',
        'handshake-max-seconds?': 'size',
      },
      async run({ addr, 'max-connections': mostClients, 'handshake-max-seconds': handshakeSeconds, ...tls }) {
        if (Object.values(tls).some((given) => given !== undefined)) throw noTls();
        await exports.start(nbdListenAddress(addr), { mostClients, handshakeSeconds });
      },
    }),
    /** Ends it, and all its exports. */
    'nbd-server-stop': qmpCommand({ members: {}, run: () => exports.stop() }),
    /** Exports a disk to be read, or a node that no disk has, under its own name if no other is given. */
    'nbd-server-add': qmpCommand({
      members: { device: 'str', ...EXPORT, 'bitmap?': 'str' },
      async run({ device, name = device, description, writable = false, bitmap }, { signal }) {
        const bitmaps = bitmap === undefined ? [] : [bitmap];
        await add(controlled, exports, { id: name, device, name, description, writable, bitmaps }, signal);
      },
    }),
    /** Ends an export; with `safe`, which is the default, only if it has no client. `name` is its id. */
    'nbd-server-remove': qmpCommand({
      members: { name: 'str', 'mode?': MODE },
      run: ({ name, mode }) => remove(name, mode),
    }),
    /** The same as `nbd-server-add`, by QEMU's newer words. */
    'block-export-add': qmpCommand({
      members: {
        type: { enum: ['nbd'] },
        id: 'str',
        'node-name': 'str',
        ...EXPORT,
        'writethrough?': 'bool',
        // By name, or with the node that has it: QEMU's BlockDirtyBitmapOrStr.
        'bitmaps?': { array: 'any' },
        'allocation-depth?': 'bool',
      },
      async run({ id, 'node-name': device, name = device, bitmaps = [], ...choice }, { signal }) {
        const { description, writable = false, writethrough, 'allocation-depth': allocationDepth } = choice;
        if (writable && writethrough) throw noWritethrough();
        const request = { id, device, name, description, writable, bitmaps, allocationDepth };
        await add(controlled, exports, request, signal);
      },
    }),
    /** The same as `nbd-server-remove`. BLOCK_EXPORT_DELETED tells when the export is gone. */
    'block-export-del': qmpCommand({
      members: { id: 'str', 'mode?': MODE },
      run: ({ id, mode }) => remove(id, mode),
    }),
    /** The exports that there are, as BlockExportInfo. */
    'query-block-exports': qmpCommand({
      members: {},
      returns: { array: { object: { id: 'str', type: 'str', 'node-name': 'str', 'shutting-down': 'bool' } } },
      run: () => exports.all,
    }),
  };
}

async function add(
  controlled: ControlContext,
  exports: DiskExports,
  request: ExportRequest,
  signal: AbortSignal,
): Promise<void> {
  exports.mustRun();
  const unused = controlled.nodes.unused.find(({ name }) => name === request.device);
  const opened =
    unused?.backing === undefined
      ? await open(controlled, request, signal)
      : await openScratch(controlled, unused, request);
  try {
    const { id, name, description, writable } = request;
    exports.add({ id, name, description, writable, ...opened });
  } catch (error) {
    await opened.status?.[Symbol.asyncDispose]();
    await opened.close?.();
    throw error;
  }
}

type Opened = Pick<NewExport, 'node' | 'image' | 'close' | 'status'>;

async function open(controlled: ControlContext, request: ExportRequest, signal: AbortSignal): Promise<Opened> {
  const lent = await imageToExport(controlled, request, signal);
  const { device, ...served } = lent;
  try {
    const choice = await choiceOf(controlled, device, request);
    return { ...served, status: await statusOf(device ?? lent, request.device, choice) };
  } catch (error) {
    await lent.close?.();
    throw error;
  }
}

/** The disk of the instant at which its backup began. Errors: QmpError, no backup runs. */
async function openScratch(
  controlled: ControlContext,
  { name, backing = '' }: BlockNode,
  request: ExportRequest,
): Promise<Opened> {
  if (request.writable) throw QmpError.refusal(`${name} cannot be exported as writable: it is a backup`);
  const disk = await namedDisk(controlled, backing);
  const backup = helperOf(disk.image)?.jobs.current;
  if (!(backup instanceof PulledBackup && backup.node === name)) {
    throw QmpError.refusal(`Node ${name} has nothing yet: begin blockdev-backup of ${backing} to it, with sync none`);
  }
  return { node: name, ...(await backup.open(await choiceOf(controlled, disk, request))) };
}

async function choiceOf(
  controlled: ControlContext,
  device: BlockDevice | undefined,
  { bitmaps, allocationDepth = false }: ExportRequest,
): Promise<StatusChoice> {
  const named = await Promise.all(bitmaps.map((bitmap) => bitmapName(controlled, device, bitmap)));
  return { bitmaps: named, allocationDepth };
}

interface ImageToExport extends Omit<Opened, 'status'> {
  /** Undefined: no disk has it. */
  readonly device?: BlockDevice | undefined;
}

/** Errors: QmpError; those of an image that cannot be opened. */
async function imageToExport(
  controlled: ControlContext,
  { id, device: asked, writable }: ExportRequest,
  signal: AbortSignal,
): Promise<ImageToExport> {
  const unused = controlled.nodes.unused.find(({ name }) => name === asked);
  if (unused) {
    if (writable && unused.readOnly) throw notWritable(asked, true);
    return { node: asked, ...(await openNodeImage(controlled, unused, { id, writable, signal })) };
  }
  const device = await diskToExport(controlled, asked);
  const image = lentImageOf(device.image);
  if (!image) throw QmpError.refusal(`${asked} has no medium`, 'DeviceNotActive');
  if (writable) throw notWritable(asked, image.readOnly);
  return { device, image, node: nodeNameOf(controlled, deviceName(device.address)) };
}

/** Errors: QmpError, no bitmap is named, or one of another disk. */
async function bitmapName(
  controlled: ControlContext,
  device: BlockDevice | undefined,
  bitmap: unknown,
): Promise<string> {
  if (typeof bitmap === 'string') return bitmap;
  const { node, name, ...rest } = (bitmap ?? {}) as Record<string, unknown>;
  if (typeof node !== 'string' || typeof name !== 'string' || Object.keys(rest).length > 0) {
    throw QmpError.refusal("Parameter 'bitmaps' expects names, or objects with node and name");
  }
  // QEMU takes those of a backing file too: here they are read-only, and note nothing.
  if ((await namedDisk(controlled, node)) !== device) throw QmpError.refusal(`Bitmap '${name}' is not of this disk`);
  return name;
}

/** What is asked for besides data and holes. Errors: QmpError. */
async function statusOf(
  device: Pick<BlockDevice, 'image'>,
  name: string,
  choice: StatusChoice,
): Promise<ExportStatus | undefined> {
  const { bitmaps, allocationDepth } = choice;
  if (bitmaps.length > 0) return StatusExport.open(helperNeeded(device, name, 'dirty bitmaps'), choice);
  const helper = helperOf(device.image);
  if (allocationDepth) return helper ? StatusExport.open(helper, choice) : oneLayer();
  return undefined;
}

/** Of an image that is not made of others. */
function oneLayer(): ExportStatus {
  return {
    contexts: [{ name: ALLOCATION_DEPTH, status: async (_, length) => [{ length, flags: 1 }] }],
    lost: new Promise(() => {}),
    [Symbol.asyncDispose]: async () => {},
  };
}

/** Errors: QmpError. */
async function diskToExport(controlled: ControlContext, name: string): Promise<BlockDevice> {
  try {
    return await namedDisk(controlled, name);
  } catch (error) {
    if (!(error instanceof QmpError) || error.class !== 'DeviceNotFound') throw error;
    // As QEMU, which looks for both.
    throw QmpError.refusal(`Cannot find device='' nor node-name='${name}': ${error.message}`);
  }
}

function notWritable(name: string, readOnly: boolean): QmpError {
  return QmpError.refusal(
    readOnly
      ? `Cannot export read-only node as writable: ${name}`
      : `${name} cannot be exported as writable: a guest's disk has one writer, its guest`,
  );
}

function noWritethrough(): QmpError {
  return QmpError.refusal('writethrough: writes are on stable storage when their client flushes them, or asks for FUA');
}

function noTls(): QmpError {
  const advice = 'use a Unix socket, or a port of localhost, and have ssh or stunnel carry it';
  return QmpError.refusal(`tls-creds, tls-authz: this server has no TLS; ${advice}`);
}
