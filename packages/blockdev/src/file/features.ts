import { optionalAddon } from '../addon.js';
import type { BlockFeatures } from '../block-image.js';
import type { FileImageOptions } from './options.js';
import type { StorageFacts } from './probe.js';

/** What a file or block device can do, as far as the addon is there to ask for it. */
export function fileFeatures(
  fd: number,
  facts: StorageFacts,
  options: Pick<FileImageOptions, 'readOnly' | 'discard' | 'secureDiscard'>,
): BlockFeatures {
  const changeable = optionalAddon() !== undefined && !options.readOnly;
  const holes = changeable && (facts.blockDevice ? facts.mayDiscard : canPunch(fd, facts));
  const discard = holes && options.discard !== false;
  return {
    flush: true,
    fua: true,
    discard,
    secureDiscard: discard && facts.blockDevice && options.secureDiscard === true,
    // The kernel writes zeroes to devices that cannot do it themselves; a file without holes has no such help.
    writeZeroes: changeable && (facts.blockDevice || holes),
    discardGranularity: discard ? facts.discardGranularity : 0,
    discardAlignment: discard ? facts.discardAlignment : 0,
  };
}

/** Tries to make a hole past the end of the file, which changes nothing. */
function canPunch(fd: number, facts: StorageFacts): boolean {
  const block = facts.discardGranularity;
  return optionalAddon()?.punch(fd, Math.ceil(facts.size / block) * block, block) === 0;
}
