import type { Requester } from '../tree/permissions.js';
import { parentPath } from '../tree/store.js';

/** The unprivileged domain whose request made a change: events that wait because of it count for its quota. */
export interface EventCause {
  charge(): void;
  discharge(): void;
}

/** What registers watches and is told of changes: a connection. */
export interface Watcher {
  readonly requester: Requester;
  watchAdded(watch: Watch): void;
  watchRemoved(watch: Watch): void;
  /** Sends an event, unless the same one is still waiting. */
  sendEvent(path: string, token: string, cause?: EventCause): void;
}

/** A registered watch. */
export interface Watch {
  readonly watcher: Watcher;
  /** Absolute, or a special name such as `@releaseDomain`. */
  readonly path: string;
  readonly token: string;
  /** How much of an event's path is left out, because the watch was registered with a relative path. */
  readonly prefixLength: number;
  /** Levels below the path that are reported; undefined for all. */
  readonly depth: number | undefined;
  /** Later watches have larger ones. */
  readonly order: number;
}

/**
 * All watches by path, so that a change costs as many look-ups as its path has components, however many watches and
 * nodes there are.
 */
export class WatchIndex {
  readonly #byPath = new Map<string, Set<Watch>>();
  #order = 0;

  add(watch: Omit<Watch, 'order'>): Watch {
    const { watcher, path, token, prefixLength, depth } = watch;
    // Written out: copies by spread get a hidden class each.
    const ordered = { watcher, path, token, prefixLength, depth, order: this.#order++ };
    const there = this.#byPath.get(path);
    if (there === undefined) this.#byPath.set(path, new Set([ordered]));
    else there.add(ordered);
    return ordered;
  }

  remove(watch: Watch): void {
    const there = this.#byPath.get(watch.path);
    there?.delete(watch);
    if (there?.size === 0) this.#byPath.delete(watch.path);
  }

  has(watch: Watch): boolean {
    return this.#byPath.get(watch.path)?.has(watch) === true;
  }

  /** The watches on this very path, in the order of their registration. */
  at(path: string): Watch[] {
    const found: Watch[] = [];
    this.#collect(path, 0, found);
    return found;
  }

  /** The watches on `path` or a directory above it, in the order of their registration. */
  covering(path: string): Watch[] {
    const found: Watch[] = [];
    let at = path;
    for (let distance = 0; ; distance++) {
      this.#collect(at, distance, found);
      if (at === '/') break;
      at = parentPath(at);
    }
    return found.length > 1 ? found.sort((a, b) => a.order - b.order) : found;
  }

  #collect(path: string, distance: number, found: Watch[]): void {
    const there = this.#byPath.get(path);
    if (there === undefined) return;
    for (const watch of there) if (watch.depth === undefined || distance <= watch.depth) found.push(watch);
  }
}

/** The path of an event as its watch was registered: relative to the domain's home if that was relative. */
export function eventPath(watch: Watch, path: string): string {
  if (watch.prefixLength === 0) return path;
  const rest = path.slice(watch.prefixLength);
  return rest[0] === '/' ? rest.slice(1) : rest;
}
