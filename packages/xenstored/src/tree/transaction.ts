/**
 * A transaction with the C daemon's rules. A node is copied when it is first touched, so that the transaction does not
 * see later changes of it, but does see earlier ones of nodes not touched yet. It is committed unless others changed a
 * node that it touched, or made one that it missed; a new child changes its parent's list. Until then the store does
 * not change, and at the commit it takes all changes or none. Watches hear of them in the order of first touches.
 */
import type { ChildList } from './children.js';
import type { NodeOwner } from './owners.js';
import type { NodePermission } from './permissions.js';
import type { ErrnoName, NodeChange, NodeContent, Store, StoreNode, StoreView } from './store.js';

/** A node that the transaction looked at or changed. */
interface AccessedNode {
  /** As the transaction sees it, or undefined: missing or removed. */
  node: StoreNode | undefined;
  /** In the store when first looked at, 0 for none: must be the same at the commit. */
  readonly generation: number;
  /** Permissions when first looked at, of a node that was there. */
  readonly before: readonly NodePermission[] | undefined;
  /** The store's list of children, which this transaction borrowed. */
  readonly borrowed: ChildList | undefined;
  modified: boolean;
  /** Whether watches will be told, and whether only those on this very path. */
  event: 'none' | 'exact' | 'subtree';
}

/** One transaction's view of the store. */
export class ServerTransaction implements StoreView {
  readonly isTransaction = true;
  readonly id: number;
  readonly #store: Store;
  readonly #owner: NodeOwner;
  /** In the order in which they were first touched, which is the order of the events. */
  readonly #accessed = new Map<string, AccessedNode>();
  readonly #nodeCounts = new Map<number, number>();
  /** Only a transaction that made nodes can exceed the quota of nodes. */
  #created = false;
  #failed = false;
  #ended = false;

  constructor(id: number, store: Store, owner: NodeOwner) {
    this.id = id;
    this.#store = store;
    this.#owner = owner;
    store.nextGeneration();
  }

  read(path: string): StoreNode | undefined | 'ENOSPC' {
    const known = this.#accessed.get(path);
    if (known !== undefined) return this.#current(known.node);
    if (this.#accessed.size >= this.#owner.quotas.transactionNodes) {
      this.#failed = true;
      return 'ENOSPC';
    }
    return this.#access(path).node;
  }

  #current(node: StoreNode | undefined): StoreNode | undefined {
    if (node === undefined) return undefined;
    const permissions = this.#store.owners.current(node.permissions, node.generation);
    return permissions === node.permissions ? node : { ...node, permissions };
  }

  #access(path: string): AccessedNode {
    const node = this.#store.read(path);
    if (node !== undefined) node.children.borrowers++;
    const accessed: AccessedNode = {
      node,
      generation: node?.generation ?? 0,
      before: node?.permissions,
      borrowed: node?.children,
      modified: false,
      event: 'none',
    };
    this.#accessed.set(path, accessed);
    return accessed;
  }

  #touch(path: string): AccessedNode {
    const accessed = this.#accessed.get(path) ?? this.#access(path);
    accessed.modified = true;
    return accessed;
  }

  write(path: string, content: NodeContent): StoreNode {
    const { permissions, data, children } = content;
    const node: StoreNode = { generation: this.#store.nextGeneration(), permissions, data, children };
    const accessed = this.#touch(path);
    this.#created ||= accessed.node === undefined;
    accessed.node = node;
    return node;
  }

  remove(path: string): void {
    this.#store.nextGeneration();
    this.#touch(path).node = undefined;
  }

  writableChildren(path: string, node: StoreNode): ChildList {
    const borrowed = this.#accessed.get(path)?.borrowed;
    return node.children === borrowed ? borrowed.fork() : node.children;
  }

  countNodes(domid: number, difference: number): void {
    this.#nodeCounts.set(domid, (this.#nodeCounts.get(domid) ?? 0) + difference);
  }

  changed(change: NodeChange): void {
    const accessed = this.#touch(change.path);
    if (!change.exact) accessed.event = 'subtree';
    else if (accessed.event === 'none') accessed.event = 'exact';
  }

  fail(): void {
    this.#failed = true;
  }

  /** Ends the transaction without a trace. */
  abort(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const accessed of this.#accessed.values()) if (accessed.borrowed !== undefined) accessed.borrowed.borrowers--;
    this.#accessed.clear();
  }

  /**
   * Ends the transaction: its changes are made, or the reason is returned why none was. `conflict` is asked when
   * nothing else is in the way; true is EAGAIN.
   */
  commit(conflict: () => boolean): ErrnoName | undefined {
    const problem = this.#problem() ?? (conflict() ? 'EAGAIN' : undefined);
    if (problem === undefined) this.#apply();
    this.abort();
    return problem;
  }

  #problem(): ErrnoName | undefined {
    if (this.#failed) return 'ENOMEM';
    const limited = this.#created && !this.#owner.privileged;
    for (const [domid, difference] of this.#nodeCounts) {
      const domain = this.#store.owners.open(domid);
      if (domain === undefined) return 'ENOSPC';
      if (!limited || domain.privileged) continue;
      if (domain.owned.size + difference >= domain.quotas.nodes) return 'ENOSPC';
    }
    for (const [path, accessed] of this.#accessed) {
      if (this.#store.generationOf(path) !== accessed.generation) return 'EAGAIN';
    }
    return undefined;
  }

  #apply(): void {
    for (const [path, accessed] of this.#accessed) {
      if (!accessed.modified) continue;
      const { node } = accessed;
      if (node !== undefined) this.#store.write(path, { ...node, children: node.children.settle() });
      else if (accessed.generation !== 0) this.#store.remove(path);
      if (accessed.event === 'none') continue;
      this.#store.changed({ path, exact: accessed.event === 'exact', before: accessed.before });
    }
  }
}
