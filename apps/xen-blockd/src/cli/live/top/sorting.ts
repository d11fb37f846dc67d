import type { MeasuredDisk } from '../rates.js';

/** By what the disks are in order: the greatest first, names as people count. */
export type SortOrder = 'iops' | 'bandwidth' | 'latency' | 'name';

const names = new Intl.Collator('en', { numeric: true });

const VALUES: Readonly<Record<Exclude<SortOrder, 'name'>, (measured: MeasuredDisk) => number | undefined>> = {
  iops: ({ rates }) => rates?.iops,
  bandwidth: ({ rates }) => rates && rates.readBandwidth + rates.writeBandwidth,
  latency: ({ rates }) => rates?.latency,
};

/** The disks in this order; those that are equal by their names, so that lines do not jump. */
export function sorted(disks: readonly MeasuredDisk[], order: SortOrder): MeasuredDisk[] {
  const amount = order === 'name' ? () => 0 : VALUES[order];
  return [...disks].sort(
    (one, other) => (amount(other) ?? -1) - (amount(one) ?? -1) || names.compare(one.disk.device, other.disk.device),
  );
}

/** The disks in whose name, guest, vdev or image the text is, whatever its case. */
export function matching(disks: readonly MeasuredDisk[], text: string): readonly MeasuredDisk[] {
  const wanted = text.toLowerCase();
  return disks.filter(({ disk: { device, guest, vdev, image } }) =>
    [device, guest, vdev, image].some((value) => value?.toLowerCase().includes(wanted)),
  );
}
