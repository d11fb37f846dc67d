/** How figures look; null and undefined are a dash. */

const NONE = '–';

/** Requests a second. */
export function rate(value) {
  if (value == null) return NONE;
  return value > 0 && value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString('en');
}

/** Bytes a second. */
export function bandwidth(value) {
  if (value == null) return NONE;
  if (value < 1e6) return `${(value / 1e3).toFixed(value > 0 && value < 1e4 ? 1 : 0)} kB/s`;
  return value < 1e9 ? `${(value / 1e6).toFixed(1)} MB/s` : `${(value / 1e9).toFixed(2)} GB/s`;
}

/** Microseconds. */
export function latency(value) {
  if (value == null) return NONE;
  if (value < 1000) return `${value.toFixed(0)} µs`;
  return value < 1e6 ? `${(value / 1e3).toFixed(1)} ms` : `${(value / 1e6).toFixed(1)} s`;
}

/** Bytes. */
export function bytes(value) {
  if (value == null) return NONE;
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];
  let [rest, unit] = [value, 0];
  while (rest >= 1024 && unit < units.length - 1) {
    rest /= 1024;
    unit++;
  }
  return `${Number(rest.toFixed(rest < 10 && unit > 0 ? 1 : 0))} ${units[unit]}`;
}

/** Seconds, in the largest unit that fits. */
export function duration(seconds) {
  if (seconds == null) return NONE;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  const days = Math.floor(seconds / 86_400);
  return `${days} ${days === 1 ? 'day' : 'days'}`;
}

/** What a disk is called: its guest and its name there. */
export function diskName({ guest, domid, vdev, device }) {
  return vdev == null ? device : `${guest ?? `domain ${domid}`}:${vdev}`;
}
