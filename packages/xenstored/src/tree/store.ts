import { ChildList } from './children.js';
import type { NodeOwners } from './owners.js';
import type { NodePermission } from './permissions.js';

/** A version of a node. Every change makes a new one, so that transactions can hold on to what they saw. */
export interface StoreNode {
  /** Of the store when this version was written; what conflicts are found by. */
  readonly generation: number;
  readonly permissions: readonly NodePermission[];
  readonly data: Uint8Array;
  readonly children: ChildList;
}

/** What a change writes; the generation is the store's business. */
export type NodeContent = Omit<StoreNode, 'generation'>;

/** An error of the protocol, as it is sent. */
export type ErrnoName =
  | 'EINVAL'
  | 'EACCES'
  | 'EEXIST'
  | 'EIO'
  | 'ENOENT'
  | 'ENOMEM'
  | 'ENOSPC'
  | 'ENOSYS'
  | 'EBUSY'
  | 'EAGAIN'
  | 'E2BIG'
  | 'EPERM'
  | 'EISCONN';

/** One change that watches are told of. */
export interface NodeChange {
  readonly path: string;
  /** Only watches on this very path: a child of a subtree that is removed. */
  readonly exact: boolean;
  /** The node, if its permissions are not in the store: it is removed already, or not committed yet. */
  readonly node?: StoreNode | undefined;
  /** Permissions that were changed or removed by this: who could read the node before is told too. */
  readonly before?: readonly NodePermission[] | undefined;
}

/** A view of the store to read and change: the store itself, or one transaction's. */
export interface StoreView {
  /** Whether this is a transaction, whose changes show and count only later. */
  readonly isTransaction: boolean;
  /** The node, or undefined; an errno when a quota forbids to look at it. */
  read(path: string): StoreNode | undefined | 'ENOSPC';
  /** Writes a new version of a node, or a new node. */
  write(path: string, content: NodeContent): StoreNode;
  /** Removes a node that has been read. Its parent's list of children is the caller's business. */
  remove(path: string): void;
  /** The list of a node's children to be changed and then written with the node. */
  writableChildren(path: string, node: StoreNode): ChildList;
  /** Counts nodes for their owner, where that is not done by writing them. */
  countNodes(domid: number, difference: number): void;
  /** Tells watches, now or when the transaction is committed. */
  changed(change: NodeChange): void;
  /** Makes a commit impossible, after half a change. Nothing outside a transaction. */
  fail(): void;
}

const ROOT_PERMISSIONS: readonly NodePermission[] = [{ domid: 0, access: 0, stale: false }];
const NO_DATA = new Uint8Array(0);

/** All nodes, by absolute path. */
export class Store implements StoreView {
  readonly isTransaction = false;
  readonly owners: NodeOwners;
  readonly #nodes = new Map<string, StoreNode>();
  readonly #notify: (change: NodeChange) => void;
  #generation = 0;

  /** `notify` hears of every change at once. */
  constructor(owners: NodeOwners, notify: (change: NodeChange) => void) {
    this.#notify = notify;
    this.owners = owners;
    this.#seed('/', 'tool');
    this.#seed('/tool', 'xenstored');
    this.#seed('/tool/xenstored');
  }

  #seed(path: string, child?: string): void {
    const children = ChildList.empty();
    if (child !== undefined) children.add(child);
    this.write(path, { permissions: ROOT_PERMISSIONS, data: NO_DATA, children });
  }

  /** How many nodes there are. */
  get size(): number {
    return this.#nodes.size;
  }

  /** Of the last change. */
  get generation(): number {
    return this.#generation;
  }

  /** A new generation, larger than all before. */
  nextGeneration(): number {
    return ++this.#generation;
  }

  read(path: string): StoreNode | undefined {
    const node = this.#nodes.get(path);
    if (node === undefined) return undefined;
    const permissions = this.owners.current(node.permissions, node.generation);
    return permissions === node.permissions ? node : { ...node, permissions };
  }

  /** The generation of a node, 0 if there is none. */
  generationOf(path: string): number {
    return this.#nodes.get(path)?.generation ?? 0;
  }

  write(path: string, content: NodeContent): StoreNode {
    const { permissions, data, children } = content;
    const node: StoreNode = { generation: this.nextGeneration(), permissions, data, children };
    this.#own(path, permissions[0].domid);
    this.#nodes.set(path, node);
    return node;
  }

  remove(path: string): void {
    this.nextGeneration();
    this.#own(path, 0);
    this.#nodes.delete(path);
  }

  /** Notes who owns a node from now on. */
  #own(path: string, owner: number): void {
    const before = this.#nodes.get(path)?.permissions[0]?.domid ?? 0;
    if (before === owner) return;
    if (before !== 0) this.owners.get(before)?.owned.delete(path);
    if (owner !== 0) this.owners.open(owner)?.owned.add(path);
  }

  writableChildren(_path: string, node: StoreNode): ChildList {
    return node.children.writable();
  }

  countNodes(): void {}

  changed(change: NodeChange): void {
    this.#notify(change);
  }

  fail(): void {}
}

/** The path of the directory that a node is in; `/` for the root itself. */
export function parentPath(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash <= 0 ? '/' : path.slice(0, slash);
}

/** The last component of a path. */
export function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** The path of a child. */
export function childPath(path: string, name: string): string {
  return path === '/' ? `/${name}` : `${path}/${name}`;
}
