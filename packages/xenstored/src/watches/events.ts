import { Access, accessOf, type NodePermission, type Requester } from '../tree/permissions.js';
import { type ErrnoName, type NodeChange, parentPath, type StoreNode } from '../tree/store.js';
import { type EventCause, eventPath, type Watch, WatchIndex } from './watches.js';

/** Names of events that are no nodes. */
export type SpecialName = '@introduceDomain' | '@releaseDomain';

const TOOLS_ONLY: readonly NodePermission[] = [{ domid: 0, access: Access.none, stale: false }];

/** An event that is about to be sent to a domain. */
export interface OutgoingEvent {
  /** The domain whose connection has registered the watch. */
  readonly domid: number;
  /** As its watch was registered: relative to the domain's home if that was relative. */
  readonly path: string;
  /** The one that the watch was registered with; other watches may have the same. */
  readonly token: string;
}

/** Sees to it that `send` is called, now, later or not at all. */
export type EventInterceptor = (event: OutgoingEvent, send: () => void) => void;

/** All watches, and who hears of what. */
export class Events {
  readonly #read: (path: string) => StoreNode | undefined;
  readonly #watches = new WatchIndex();
  readonly #special = new Map<string, readonly NodePermission[]>([
    ['@introduceDomain', TOOLS_ONLY],
    ['@releaseDomain', TOOLS_ONLY],
  ]);

  /** For tests: what stands between this and the watchers. */
  interceptor: EventInterceptor | undefined;

  /** `read` gives nodes of the store. */
  constructor(read: (path: string) => StoreNode | undefined) {
    this.#read = read;
  }

  addWatch(watch: Omit<Watch, 'order'>): Watch {
    const added = this.#watches.add(watch);
    added.watcher.watchAdded(added);
    return added;
  }

  removeWatch(watch: Watch): void {
    this.#watches.remove(watch);
    watch.watcher.watchRemoved(watch);
  }

  /** Tells of a change. `cause` is the unprivileged domain that made it. */
  fire(change: NodeChange, cause: EventCause | undefined): void {
    const { path, exact } = change;
    for (const watch of exact ? this.#watches.at(path) : this.#watches.covering(path)) {
      if (this.#mayHear(watch.watcher.requester, change)) this.#send(watch, eventPath(watch, path), cause);
    }
  }

  /** Tells of a domain. A watch with a depth is told which one. */
  announce(name: SpecialName, domid: number): void {
    for (const watch of this.#watches.at(name)) {
      const { watcher, depth } = watch;
      if (!mayRead(this.#special.get(name), watcher.requester)) continue;
      this.#send(watch, depth === undefined || depth < 1 ? name : `${name}/${domid}`);
    }
  }

  #send(watch: Watch, path: string, cause?: EventCause): void {
    const { watcher, token } = watch;
    if (this.interceptor === undefined) {
      watcher.sendEvent(path, token, cause);
      return;
    }
    this.interceptor({ domid: watcher.requester.domid, path, token }, () => {
      if (this.#watches.has(watch)) watcher.sendEvent(path, token, cause);
    });
  }

  /** A domain hears of nodes that it can read, or whose directory it can read, now or before the change. */
  #mayHear(requester: Requester, change: NodeChange): boolean {
    if (mayRead(change.before, requester)) return true;
    const node = change.node ?? this.#read(change.path);
    if (node === undefined) return false;
    return mayRead(node.permissions, requester) || mayRead(this.#read(parentPath(change.path))?.permissions, requester);
  }

  /** Sets who hears of an event that is no node: EINVAL if there is none of that name, EACCES. */
  setSpecialPermissions(
    requester: Requester,
    name: string,
    permissions: readonly NodePermission[],
  ): ErrnoName | undefined {
    const current = this.#special.get(name);
    if (current === undefined) return 'EINVAL';
    const wanted = Access.write | Access.owner;
    if ((accessOf(current, requester) & wanted) !== wanted) return 'EACCES';
    this.#special.set(name, permissions);
    return undefined;
  }

  /** Takes a domain that is gone out of those permissions. */
  forget(domid: number): void {
    for (const [name, [owner, ...others]] of this.#special) {
      const remaining = others.filter((entry) => entry.domid !== domid);
      this.#special.set(name, [owner.domid === domid ? { ...owner, domid: 0 } : owner, ...remaining]);
    }
  }
}

function mayRead(permissions: readonly NodePermission[] | undefined, requester: Requester): boolean {
  return permissions !== undefined && (accessOf(permissions, requester) & Access.read) !== 0;
}
