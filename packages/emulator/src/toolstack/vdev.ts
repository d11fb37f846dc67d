/** A disk name with an optional partition; both spellings of xen-vbd-interface(7) that xl takes for xvd. */
const NAME = /^(?:(xvd|hd|sd)([a-z]{1,4})|d(\d{1,7})p)(\d{0,3})$/;

/** The number that names the device in xenstore (xen-vbd-interface(7)); undefined for what xl would refuse. */
export function vdevNumber(vdev: string): number | undefined {
  if (/^(?:0x[0-9a-f]+|\d+)$/i.test(vdev)) return Number(vdev);
  const match = NAME.exec(vdev);
  if (match === null) return undefined;
  const [, kind, letters, digits, part] = match;
  const disk = letters === undefined ? Number(digits) : diskOfLetters(letters);
  return encode(kind ?? 'xvd', disk, Number(part));
}

function encode(kind: string, disk: number, partition: number): number | undefined {
  if (kind === 'hd') {
    if (disk > 3 || partition > 63) return undefined;
    return ((disk < 2 ? 3 : 22) << 8) | ((disk & 1) << 6) | partition;
  }
  if (kind === 'sd') return disk > 15 || partition > 15 ? undefined : (8 << 8) | (disk << 4) | partition;
  if (disk < 16 && partition < 16) return (202 << 8) | (disk << 4) | partition;
  return disk >= 1 << 20 || partition > 255 ? undefined : (1 << 28) | (disk << 8) | partition;
}

/** a is 0, z 25, aa 26. */
function diskOfLetters(letters: string): number {
  let disk = 0;
  for (const letter of letters) disk = disk * 26 + letter.charCodeAt(0) - 96;
  return disk - 1;
}
