/** What a disk, or all disks of a guest together, may do each second. What is undefined is not limited. */
export interface RateLimits {
  /** Requests a second. */
  readonly iops?: number | undefined;
  /** Bytes a second that reads and writes move. */
  readonly bandwidth?: number | undefined;
  /** Requests that may be taken at once after a quiet time: those of 0.1 s when not given, of 0.01 s at least. */
  readonly iopsBurst?: number | undefined;
  /** Bytes that may be moved at once after a quiet time: likewise. */
  readonly bandwidthBurst?: number | undefined;
}

/** What {@link parseRateLimits} takes, for people. */
export const RATE_LIMITS_FORM =
  '"none", or a list as iops=500,bandwidth=20M of iops, bandwidth, iops-burst and bandwidth-burst, each a whole number ' +
  'from 1 on, in which K, M, G and T stand for powers of 1024';

const NAMES = {
  iops: 'iops',
  bandwidth: 'bandwidth',
  'iops-burst': 'iopsBurst',
  'bandwidth-burst': 'bandwidthBurst',
} as const satisfies Record<string, keyof RateLimits>;

const UNITS = ['', 'K', 'M', 'G', 'T'];
/** Above that nothing is limited in this world, and doubles are exact below. */
const MOST = 2 ** 50;

/** Limits from a text, see {@link RATE_LIMITS_FORM}; undefined when it is none. */
export function parseRateLimits(text: string): RateLimits | undefined {
  if (text.trim() === 'none') return {};
  const limits: { -readonly [K in keyof RateLimits]: RateLimits[K] } = {};
  for (const item of text.split(',')) {
    const [, name, digits, unit = ''] = /^\s*([a-z-]+)\s*=\s*([0-9]{1,16})([KMGT]?)\s*$/i.exec(item) ?? [];
    if (name === undefined || !Object.hasOwn(NAMES, name)) return undefined;
    const key = NAMES[name as keyof typeof NAMES];
    const value = Number(digits) * 1024 ** UNITS.indexOf(unit.toUpperCase());
    if (limits[key] !== undefined || value < 1 || value > MOST) return undefined;
    limits[key] = value;
  }
  const burstOfNothing =
    (limits.iopsBurst !== undefined && limits.iops === undefined) ||
    (limits.bandwidthBurst !== undefined && limits.bandwidth === undefined);
  return burstOfNothing ? undefined : limits;
}

/** As {@link parseRateLimits} takes it. */
export function formatRateLimits(limits: RateLimits): string {
  const items = Object.entries(NAMES).flatMap(([name, key]) => {
    const value = limits[key];
    return value === undefined ? [] : [`${name}=${withUnit(value)}`];
  });
  return items.join(',') || 'none';
}

function withUnit(value: number): string {
  let unit = 0;
  while (value % 1024 === 0 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value}${UNITS[unit]}`;
}
