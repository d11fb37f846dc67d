/**
 * A snapshot that a process which is gone was making. Until its new layer has the image's name it is none, and what was made
 * for it is of no use: the layer, and a second name of the image.
 */
import { lstatSync, readFileSync, rmSync, writeFileSync } from 'node:fs';

/** Beside the folder of the disk's helper, which that could change. */
const NOTE = '.snapshot';

/** Whole paths. */
interface UnfinishedSnapshot {
  readonly image: string;
  /** Takes the image's name, and has another one until then. */
  readonly layer: string;
  /** What the image is named then. */
  readonly snapshot: string;
}

/** Notes what a snapshot is about to make, for the next process; `undefined`: it is over. */
export function noteSnapshot(folder: string, unfinished: UnfinishedSnapshot | undefined): void {
  const note = folder + NOTE;
  if (unfinished === undefined) rmSync(note, { force: true });
  else writeFileSync(note, JSON.stringify(unfinished), { mode: 0o600 });
}

/** Removes what is left of a snapshot that was not finished, of the disk whose helper has this folder. */
export function removeLeftSnapshot(folder: string): void {
  try {
    const { image, layer, snapshot } = JSON.parse(readFileSync(folder + NOTE, 'utf8')) as UnfinishedSnapshot;
    // Without it the layer has the image's name, or was never made.
    if (lstatSync(layer, { throwIfNoEntry: false })) {
      if (isOneFile(image, snapshot)) rmSync(snapshot);
      // Last: one that is killed here is followed by one that does the same.
      rmSync(layer);
    }
  } catch {
    // There is no such note, or it was not written to its end, or its folder is not there at the moment.
  }
  noteSnapshot(folder, undefined);
}

function isOneFile(one: string, other: string): boolean {
  const [{ dev, ino }, found] = [lstatSync(one), lstatSync(other, { throwIfNoEntry: false })];
  return found?.dev === dev && found.ino === ino;
}
