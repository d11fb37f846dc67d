/** QEMU's queries about disks: what libxenstat, libvirt and backup tools read (QEMU's qapi/block-core.json). */
import { type QmpCommand, qmpCommand } from '@xenpv/qmp';
import type { BlockDevice, ClassStatistics, RateLimits } from '@xenpv/xen-block';
import { backendPath, deviceName } from '@xenpv/xenbus';
import { driverOf } from '../../images/storage-daemon/arguments.js';
import { type ControlContext, disksOf, nodeNameOf } from '../controlled.js';
import { bitmapsOf } from './jobs/bitmaps.js';

export function blockCommands(controlled: ControlContext): Record<string, QmpCommand> {
  /** What a client called it, or its directory in xenstore. */
  const qdevOf = ({ address }: BlockDevice): string => {
    const name = deviceName(address);
    const id = controlled.ids.idOf(name);
    return id === name ? backendPath(controlled.backend()?.ownDomid ?? 0, address) : id;
  };
  const namesOf = (device: BlockDevice): Names => ({
    qdev: qdevOf(device),
    node: nodeNameOf(controlled, deviceName(device.address)),
  });
  return {
    /** All disks, as BlockInfo: the image, whether it is read-only, and the state of its errors. */
    'query-block': qmpCommand({
      members: {},
      returns: { array: 'any' },
      run: () => Promise.all(disksOf(controlled).map((device) => blockInfo(device, namesOf(device)))),
    }),
    /** What each disk has done, as BlockStats; with `query-nodes` each image. */
    'query-blockstats': qmpCommand({
      members: { 'query-nodes?': 'bool' },
      returns: { array: 'any' },
      run: ({ 'query-nodes': nodes = false }) =>
        disksOf(controlled)
          .filter(({ image }) => !nodes || image !== undefined)
          .map((device) => blockStats(device, namesOf(device), nodes)),
    }),
    /** The images of disks, and the nodes of blockdev-add that no disk has. */
    'query-named-block-nodes': qmpCommand({
      members: { 'flat?': 'bool' },
      returns: { array: 'any' },
      run: async () => [
        ...(await Promise.all(disksOf(controlled).map((device) => insertedOf(device, namesOf(device))))).filter(
          (node) => node !== undefined,
        ),
        ...controlled.nodes.unused.map(({ name, driver, filename, readOnly }) => ({
          'node-name': name,
          drv: driver,
          file: filename,
          ro: readOnly,
        })),
      ],
    }),
  };
}

interface Names {
  readonly qdev: string;
  /** Of its image. */
  readonly node: string;
}

/** BlockInfo. The device has the name that `xen-blockd list` shows. */
async function blockInfo(device: BlockDevice, names: Names) {
  const { address, config, stopped, image } = device;
  const removable = config?.deviceType === 'cdrom';
  const inserted = await insertedOf(device, names);
  return {
    device: deviceName(address),
    qdev: names.qdev,
    type: 'unknown',
    removable,
    locked: false,
    'io-status': !stopped ? 'ok' : ['ENOSPC', 'EDQUOT'].includes(stopped.errno) ? 'nospace' : 'failed',
    ...(removable ? { tray_open: image === undefined } : {}),
    ...(inserted ? { inserted } : {}),
  };
}

/** BlockDeviceInfo, or undefined for a drive without a medium. */
async function insertedOf(device: BlockDevice, { node }: Names) {
  const { config, image, limits } = device;
  if (!image || !config) return undefined;
  const { description, readOnly, size } = image;
  const drv = driverOf(config.format);
  const bitmaps = await bitmapsOf(device);
  return {
    file: description,
    'node-name': node,
    ro: readOnly,
    drv,
    encrypted: false,
    backing_file_depth: 0,
    detect_zeroes: 'off',
    active: true,
    write_threshold: 0,
    ...throttleOf(limits.disk),
    ...(bitmaps.length > 0 && { 'dirty-bitmaps': bitmaps }),
    cache: { writeback: true, direct: config.direct ?? false, 'no-flush': false },
    image: { filename: description, format: drv, 'virtual-size': size, 'dirty-flag': false },
  };
}

/** A limit that there is none of is 0. */
function throttleOf({ iops = 0, bandwidth = 0, iopsBurst, bandwidthBurst }: RateLimits) {
  return {
    bps: bandwidth,
    bps_rd: 0,
    bps_wr: 0,
    iops,
    iops_rd: 0,
    iops_wr: 0,
    ...(bandwidthBurst === undefined ? {} : { bps_max: bandwidthBurst }),
    ...(iopsBurst === undefined ? {} : { iops_max: iopsBurst }),
  };
}

/** BlockStats. */
function blockStats(device: BlockDevice, { qdev, node }: Names, asNode: boolean) {
  const { read, write, flush, discard } = device.statistics();
  return {
    ...(asNode ? {} : { device: deviceName(device.address), qdev }),
    ...(device.image ? { 'node-name': node } : {}),
    stats: {
      ...countersOf('rd', read),
      ...countersOf('wr', write),
      ...countersOf('flush', flush),
      ...countersOf('unmap', discard),
      // What is not counted is 0, as QEMU says it.
      wr_highest_offset: 0,
      account_invalid: true,
      account_failed: true,
      timed_stats: [],
    },
  };
}

function countersOf(name: string, counted: ClassStatistics) {
  const { operations, bytes, failed, invalid, merged, totalTimeNs } = counted;
  return {
    ...(name === 'flush' ? {} : { [`${name}_bytes`]: bytes, [`${name}_merged`]: merged }),
    [`${name}_operations`]: operations,
    [`${name}_total_time_ns`]: Math.round(totalTimeNs),
    [`failed_${name}_operations`]: failed,
    [`invalid_${name}_operations`]: invalid,
  };
}
