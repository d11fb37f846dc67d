import { pathProblem } from '@xenpv/xenstore';
import { ChildList } from './children.js';
import type { NodeOwner } from './owners.js';
import { Access, accessOf, type NodePermission } from './permissions.js';
import type { XenstoredQuotas } from './quotas.js';
import {
  baseName,
  childPath,
  type ErrnoName,
  type NodeChange,
  type NodeContent,
  parentPath,
  type StoreNode,
  type StoreView,
} from './store.js';

/** The domain that does something to the tree, and the view on which it does it. */
export interface TreeContext {
  readonly view: StoreView;
  readonly domain: NodeOwner;
}

const NO_DATA = new Uint8Array(0);

/** Bytes of a node as {@link XenstoredQuotas.nodeBytes} counts them. */
function nodeBytes(content: NodeContent, addedName = ''): number {
  const added = addedName === '' ? 0 : addedName.length + 1;
  return 24 + 8 * content.permissions.length + content.data.length + content.children.byteLength + added;
}

function tooLarge(context: TreeContext, content: NodeContent, addedName?: string): boolean {
  return nodeBytes(content, addedName) >= context.domain.quotas.nodeBytes;
}

const HOME = /^\/local\/domain\/[0-9]{1,5}\//;

/** Whether `path` may name a node: absolute, of the allowed characters, and not too long. */
export function isNodePath(path: string, quotas: XenstoredQuotas): boolean {
  if (path[0] !== '/' || pathProblem(path) !== undefined) return false;
  return path.length <= quotas.pathBytes || path.length - (HOME.exec(path)?.[0].length ?? 0) <= quotas.pathBytes;
}

/**
 * The node at an absolute path, if the requester has all of `wanted`. A requester that may not look at the nearest
 * ancestor either learns nothing but EACCES.
 */
export function getNode(context: TreeContext, path: string, wanted: number): StoreNode | ErrnoName {
  if (!isNodePath(path, context.domain.quotas)) return 'EINVAL';
  const node = context.view.read(path);
  if (node === 'ENOSPC') return node;
  if (node === undefined) return errorFromAncestors(context, path, 'ENOENT', wanted);
  if ((accessOf(node.permissions, context.domain) & wanted) === wanted) return node;
  return errorFromAncestors(context, path, 'EACCES', wanted);
}

function errorFromAncestors(context: TreeContext, path: string, error: ErrnoName, wanted: number): ErrnoName {
  let at = path;
  for (;;) {
    at = parentPath(at);
    const node = context.view.read(at);
    if (node === 'ENOSPC') return node;
    if (node !== undefined) return accessOf(node.permissions, context.domain) & wanted ? error : 'EACCES';
    if (at === '/') return 'EACCES';
  }
}

/** WRITE: a new value, or a new node with it. */
export function writeNode(context: TreeContext, path: string, data: Uint8Array): ErrnoName | undefined {
  const node = getNode(context, path, Access.write);
  if (node === 'ENOENT') return createNode(context, path, data);
  if (typeof node === 'string') return node;
  const content = { permissions: node.permissions, data, children: node.children };
  const failure = replaceNode(context, path, content);
  if (failure !== undefined) return failure;
  context.view.changed({ path, exact: false });
  return undefined;
}

/** MKDIR: nothing if the node is there, else a new one without a value. */
export function makeNode(context: TreeContext, path: string): ErrnoName | undefined {
  const node = getNode(context, path, Access.write);
  if (node === 'ENOENT') return createNode(context, path, NO_DATA);
  return typeof node === 'string' ? node : undefined;
}

function replaceNode(context: TreeContext, path: string, content: NodeContent): ErrnoName | undefined {
  if (tooLarge(context, content)) {
    context.view.fail();
    return 'ENOSPC';
  }
  context.view.write(path, content);
  return undefined;
}

/** Makes a node and all directories that are missing above it. */
function createNode(context: TreeContext, path: string, data: Uint8Array): ErrnoName | undefined {
  const created = [path];
  let parent = parentPath(path);
  let parentNode: StoreNode | undefined | 'ENOSPC';
  while ((parentNode = context.view.read(parent)) === undefined) {
    created.push(parent);
    parent = parentPath(parent);
  }
  if (parentNode === 'ENOSPC') return parentNode;
  const contents = newContents(context, created, parentNode, data);
  const topName = baseName(created[created.length - 1]);
  if (!mayCreate(context, contents, parentNode, topName)) return 'ENOSPC';
  for (let i = 0; i < created.length; i++) {
    context.view.write(created[i], contents[i]);
    context.view.countNodes(contents[i].permissions[0].domid, 1);
  }
  const children = context.view.writableChildren(parent, parentNode);
  children.add(topName);
  context.view.write(parent, { permissions: parentNode.permissions, data: parentNode.data, children });
  context.view.changed({ path, exact: false });
  return undefined;
}

/** What the new nodes hold, the deepest first: they inherit permissions, but domains own what they make. */
function newContents(context: TreeContext, created: string[], parent: StoreNode, data: Uint8Array): NodeContent[] {
  const permissions = ownedBy(context.domain, parent.permissions);
  return created.map((_, i) => {
    const children = ChildList.empty();
    if (i > 0) children.add(baseName(created[i - 1]));
    return { permissions, data: i === 0 ? data : NO_DATA, children };
  });
}

function ownedBy(domain: NodeOwner, permissions: readonly NodePermission[]): readonly NodePermission[] {
  if (domain.privileged || permissions[0].domid === domain.domid) return permissions;
  return [{ ...permissions[0], domid: domain.domid }, ...permissions.slice(1)];
}

/** Checks the quotas in the order in which the nodes are written; a transaction that got halfway is lost. */
function mayCreate(context: TreeContext, contents: NodeContent[], parent: StoreNode, name: string): boolean {
  const { view, domain } = context;
  for (let i = 0; i < contents.length; i++) {
    const counted = domain.owned.size + (view.isTransaction ? 0 : i);
    const full = counted >= domain.quotas.nodes;
    if (!full && !tooLarge(context, contents[i])) continue;
    if (!full || i > 0) view.fail();
    return false;
  }
  if (!tooLarge(context, parent, name)) return true;
  view.fail();
  return false;
}

/** RM: a node and all below it. A missing node is fine if its directory is there. */
export function removeNode(context: TreeContext, path: string): ErrnoName | undefined {
  const node = getNode(context, path, Access.write);
  if (node === 'ENOENT') {
    const parent = context.view.read(parentPath(path));
    return typeof parent === 'string' ? parent : parent === undefined ? 'ENOENT' : undefined;
  }
  if (typeof node === 'string') return node;
  if (path === '/') return 'EINVAL';
  const parent = parentPath(path);
  const parentNode = context.view.read(parent);
  if (typeof parentNode === 'string') return parentNode;
  if (parentNode === undefined) return 'EINVAL';
  if (!removeSubtree(context, { path, node, exact: false })) return 'EIO';
  // A transaction that looked at the directory before others made the node does not find it there. It is lost anyway.
  if (!parentNode.children.has(baseName(path))) return 'EIO';
  const children = context.view.writableChildren(parent, parentNode);
  children.remove(baseName(path));
  context.view.write(parent, { permissions: parentNode.permissions, data: parentNode.data, children });
  return undefined;
}

/** The change that tells of a removed node. */
type Removal = NodeChange & { readonly node: StoreNode };

/**
 * Removes what is below a node, then the node. False when a transaction may not touch that many nodes, or when others
 * removed one since it looked at the directory.
 */
function removeSubtree(context: TreeContext, removal: Removal): boolean {
  const { view } = context;
  const { path, node } = removal;
  for (const name of [...node.children]) {
    const below = childPath(path, name);
    const child = view.read(below);
    if (child === undefined || child === 'ENOSPC') return false;
    if (!removeSubtree(context, { path: below, node: child, exact: true })) return false;
  }
  view.remove(path);
  view.changed(removal);
  view.countNodes(node.permissions[0].domid, -1);
  return true;
}

/** Removes all nodes that a domain owns, and what is below them, as the C daemon does when a domain is gone. */
export function removeOwned(context: TreeContext, owner: NodeOwner): void {
  const onTheWay = new Set<string>();
  for (let path of owner.owned) {
    while (!onTheWay.has(path)) {
      onTheWay.add(path);
      path = parentPath(path);
    }
  }
  if (onTheWay.size > 0) removeOwnedBelow(context, owner, '/', onTheWay);
}

function removeOwnedBelow(context: TreeContext, owner: NodeOwner, path: string, onTheWay: Set<string>): void {
  const node = context.view.read(path);
  if (node === undefined || node === 'ENOSPC') return;
  for (const name of [...node.children]) {
    const child = childPath(path, name);
    if (owner.owned.has(child)) removeNode(context, child);
    else if (onTheWay.has(child)) removeOwnedBelow(context, owner, child, onTheWay);
  }
}

/** SET_PERMS of an ordinary node. */
export function setPermissions(
  context: TreeContext,
  path: string,
  permissions: readonly NodePermission[],
): ErrnoName | undefined {
  const node = getNode(context, path, Access.write | Access.owner);
  if (typeof node === 'string') return node;
  const before = node.permissions;
  if (!context.domain.privileged && permissions[0].domid !== before[0].domid) return 'EPERM';
  const failure = replaceNode(context, path, { permissions, data: node.data, children: node.children });
  if (failure !== undefined) return failure;
  context.view.countNodes(before[0].domid, -1);
  context.view.countNodes(permissions[0].domid, 1);
  context.view.changed({ path, exact: false, before });
  return undefined;
}
