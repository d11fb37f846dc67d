import { type QmpCommand, QmpError, qmpCommand } from '@xenpv/qmp';
import type { RateLimits } from '@xenpv/xen-block';
import { type ControlContext, namedDisk } from '../controlled.js';
import { oneName } from './names.js';

const DIRECTIONS = ['bps_rd', 'bps_wr', 'iops_rd', 'iops_wr'] as const;
const DIRECTION_BURSTS = ['bps_rd_max', 'bps_wr_max', 'iops_rd_max', 'iops_wr_max'] as const;
const UNUSED = [...DIRECTIONS, ...DIRECTION_BURSTS];

/** QEMU's, and less than a text of limits may have: a larger one would not be understood when it is read back. */
const MOST = 1e15;

const MEMBERS = {
  'device?': 'str',
  'id?': 'str',
  bps: 'size',
  iops: 'size',
  bps_rd: 'size',
  bps_wr: 'size',
  iops_rd: 'size',
  iops_wr: 'size',
  'bps_max?': 'size',
  'iops_max?': 'size',
  'bps_rd_max?': 'size',
  'bps_wr_max?': 'size',
  'iops_rd_max?': 'size',
  'iops_wr_max?': 'size',
} as const;

/** Limits as QEMU's clients set them; `x-throttle` sets those of a guest too. */
export function throttleCommands(controlled: ControlContext): Record<string, QmpCommand> {
  return {
    /** Limits of a disk; 0 is none. Those of reads or of writes alone must be 0: they are limited together. */
    block_set_io_throttle: qmpCommand({
      members: MEMBERS,
      async run({ device, id, ...asked }) {
        const disk = await namedDisk(controlled, oneName({ device, id }));
        const strange = UNUSED.find((name) => (asked[name] ?? 0) !== 0);
        if (strange !== undefined) {
          throw QmpError.refusal(`${strange} must be 0: limits are for reads and writes together, see bps and iops`);
        }
        const large = Object.entries(asked).find(([, value]) => (value ?? 0) > MOST);
        if (large) throw QmpError.refusal(`${large[0]} must be within [0, ${MOST}]`);
        await disk.setLimits('disk', limitsOf(asked));
      },
    }),
  };
}

/** 0 is no limit. Error: a burst of nothing. */
function limitsOf(asked: {
  bps: number;
  iops: number;
  bps_max?: number | undefined;
  iops_max?: number | undefined;
}): RateLimits {
  const { bps, iops, bps_max = 0, iops_max = 0 } = asked;
  if ((bps === 0 && bps_max > 0) || (iops === 0 && iops_max > 0)) {
    throw QmpError.refusal('bps_max and iops_max need bps and iops: a burst is of something that is limited');
  }
  return {
    bandwidth: bps || undefined,
    iops: iops || undefined,
    bandwidthBurst: bps_max || undefined,
    iopsBurst: iops_max || undefined,
  };
}
