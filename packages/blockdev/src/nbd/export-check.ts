import { type NbdExport, NbdFlag } from '@xenpv/nbd';

/** What an image relies on, once it was there. */
const ABILITIES: readonly [flag: number, name: string][] = [
  [NbdFlag.sendFlush, 'flush'],
  [NbdFlag.sendFua, 'FUA'],
  [NbdFlag.sendTrim, 'trim'],
  [NbdFlag.sendWriteZeroes, 'write zeroes'],
];

/**
 * Why an export that is back cannot be used as the one that it was, for people; or undefined. One that has grown meanwhile, beyond
 * the `leastBytes` that are relied on, is of use.
 */
export function unlikeBefore(found: NbdExport, before: NbdExport, leastBytes: number): string | undefined {
  if (found.size < leastBytes) return 'the export is smaller than before';
  if ((found.flags & NbdFlag.readOnly) > (before.flags & NbdFlag.readOnly))
    return 'the export takes no writes any more';
  for (const [flag, name] of ABILITIES) {
    if ((before.flags & flag) !== 0 && (found.flags & flag) === 0) return `the export does not know ${name} any more`;
  }
  if (found.minimumBlock > before.minimumBlock) return 'the export has larger blocks than before';
  if (found.maximumBlock < before.maximumBlock) return 'the export takes less at once than before';
  return undefined;
}
