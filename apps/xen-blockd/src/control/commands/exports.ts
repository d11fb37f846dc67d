/** Disks served over NBD while their guests use them, as backup tools ask QEMU for it (QEMU's qapi/block-export.json). */
import { type QmpCommand, QmpError, type QmpMembers, qmpCommand } from '@xenpv/qmp';
import type { BlockDevice } from '@xenpv/xen-block';
import { deviceName } from '@xenpv/xenbus';
import { lentImageOf } from '../../images/lent-image.js';
import { type ControlContext, namedDisk, nodeNameOf } from '../controlled.js';
import type { DiskExports } from '../exports/disk-exports.js';
import { nbdListenAddress } from '../exports/nbd-address.js';
import { bitmapsOf } from './jobs/bitmaps.js';

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
  readonly bitmaps: readonly string[];
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
    /** Exports a disk to be read, under its own name if no other is given. */
    'nbd-server-add': qmpCommand({
      members: { device: 'str', ...EXPORT, 'bitmap?': 'str' },
      async run({ device, name = device, description, writable = false, bitmap }) {
        const bitmaps = bitmap === undefined ? [] : [bitmap];
        await add(controlled, exports, { id: name, device, name, description, writable, bitmaps });
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
        // Nothing is written.
        'writethrough?': 'bool',
        'bitmaps?': { array: 'str' },
        'allocation-depth?': 'bool',
      },
      async run({ id, 'node-name': device, name = device, bitmaps = [], 'allocation-depth': depth, ...choice }) {
        if (depth) throw noBlockStatus('allocation-depth');
        const { description, writable = false } = choice;
        await add(controlled, exports, { id, device, name, description, writable, bitmaps });
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
  { id, device: asked, name, description, writable, bitmaps }: ExportRequest,
): Promise<void> {
  exports.mustRun();
  const device = await diskToExport(controlled, asked);
  const image = lentImageOf(device.image);
  if (!image) throw QmpError.refusal(`${asked} has no medium`, 'DeviceNotActive');
  if (writable) throw notWritable(asked, image.readOnly);
  await checkBitmaps(device, bitmaps);
  exports.add({ id, name, description, node: nodeNameOf(controlled, deviceName(device.address)), image });
}

/** Errors: QmpError. */
async function diskToExport(controlled: ControlContext, name: string): Promise<BlockDevice> {
  if (controlled.nodes.unused.some((node) => node.name === name)) {
    const advice = 'device_add a disk of it, or serve it with qemu-nbd';
    throw QmpError.refusal(`Node ${name} is not open, for no disk has it: ${advice}`);
  }
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

/** Error: QmpError, if any is asked for. */
async function checkBitmaps(device: BlockDevice, asked: readonly string[]): Promise<void> {
  if (asked.length === 0) return;
  const known = (await bitmapsOf(device)).map(({ name }) => name);
  const missing = asked.find((name) => !known.includes(name));
  if (missing !== undefined) throw QmpError.refusal(`Bitmap '${missing}' is not found`);
  throw noBlockStatus('bitmaps');
}

function noBlockStatus(what: string): QmpError {
  const advice = 'drive-backup with sync=incremental copies what a bitmap has noted, also to an NBD server';
  return QmpError.refusal(`${what}: exports are without block status here; ${advice}`);
}

function noTls(): QmpError {
  const advice = 'use a Unix socket, or a port of localhost, and have ssh or stunnel carry it';
  return QmpError.refusal(`tls-creds, tls-authz: this server has no TLS; ${advice}`);
}
