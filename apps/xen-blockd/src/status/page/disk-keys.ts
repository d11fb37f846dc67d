import { errorMessage, printable } from '@xenpv/xenbus';
import type { XenstoreClient } from '@xenpv/xenstore';

/** A guest may fill its half with as many keys as xenstored lets it. */
const MAX_KEYS = 200;
const MAX_VALUE = 300;
/** While xenstored is away nobody waits for longer. */
const READ_MS = 2000;
/** Whoever asks sooner gets the same answer, so that questions cost xenstored little. */
const FRESH_MS = 2000;

/** One directory of xenstore, with what is one level below it. */
export interface KeysOf {
  readonly path: string;
  /** Sorted; control characters are written as `\u001b`, long values end with `…`. */
  readonly keys: readonly (readonly [name: string, value: string])[];
  /** Whether there are more than these. */
  readonly cut: boolean;
}

/** Both halves of a disk, or why they could not be read. */
export interface DiskKeys {
  readonly halves: readonly KeysOf[];
  readonly problem: string | null;
}

/** Reads the keys of disks. What is read is kept for two seconds, for few disks at a time. */
export class DiskKeysReader {
  readonly #kept = new Map<string, { readonly at: number; readonly keys: Promise<DiskKeys> }>();

  /** Never rejects. The first path is the disk's own. */
  read(store: XenstoreClient | undefined, paths: readonly [string, string]): Promise<DiskKeys> {
    const now = performance.now();
    for (const [path, { at }] of this.#kept) if (now - at > FRESH_MS) this.#kept.delete(path);
    const kept = this.#kept.get(paths[0]);
    if (kept) return kept.keys;
    const keys = readHalves(store, paths);
    this.#kept.set(paths[0], { at: now, keys });
    return keys;
  }
}

async function readHalves(store: XenstoreClient | undefined, paths: readonly string[]): Promise<DiskKeys> {
  if (!store) return { halves: [], problem: 'the daemon is starting' };
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), READ_MS);
  try {
    const halves: KeysOf[] = [];
    for (const path of paths) halves.push(await readHalf(store, path, late.signal));
    return { halves, problem: null };
  } catch (error) {
    const problem = late.signal.aborted ? 'xenstored does not answer' : printable(errorMessage(error));
    return { halves: [], problem };
  } finally {
    clearTimeout(timer);
  }
}

async function readHalf(store: XenstoreClient, path: string, signal: AbortSignal): Promise<KeysOf> {
  const keys: [string, string][] = [];
  const names = ((await store.tryDirectory(path, { signal })) ?? []).sort();
  for (const name of names.slice(0, MAX_KEYS)) {
    await addKey(keys, name);
    for (const child of ((await store.tryDirectory(`${path}/${name}`, { signal })) ?? []).sort()) {
      if (keys.length >= MAX_KEYS) break;
      await addKey(keys, `${name}/${child}`);
    }
  }
  return { path, keys: keys.slice(0, MAX_KEYS), cut: keys.length >= MAX_KEYS };

  async function addKey(to: [string, string][], name: string): Promise<void> {
    if (to.length >= MAX_KEYS) return;
    const value = await store.tryRead(`${path}/${name}`, { signal });
    if (value === undefined) return;
    to.push([printable(name), printable(value.length > MAX_VALUE ? `${value.slice(0, MAX_VALUE)}…` : value)]);
  }
}
