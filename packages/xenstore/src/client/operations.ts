import type { Permission } from './permissions.js';

/** What every waiting call takes last. */
export interface OperationOptions {
  /** Aborting rejects the call with the signal's reason; the reply is ignored when it comes. */
  readonly signal?: AbortSignal | undefined;
}

/** How far {@link XenstoreOperations.walk} goes. */
export interface WalkOptions extends OperationOptions {
  /** Levels below the node that is begun with: 0 is that node alone. All by default. */
  readonly depth?: number | undefined;
}

/** A node that a walk comes to. */
export interface WalkedNode {
  /** Absolute, or relative to the home of the client's domain, as is the path that the walk began with. */
  readonly path: string;
  /** 0 for the node that the walk began with. */
  readonly depth: number;
  /** As text; undefined where this domain may not read it. */
  readonly value: string | undefined;
  /** The names of its children, in the daemon's order; none where this domain may not list it. */
  readonly children: readonly string[];
}

/** What can be written to a node: numbers in decimal, true as `1`, false as `0`, bytes and text as they are. */
export type XenstoreValue = string | number | bigint | boolean | Uint8Array;

/**
 * What can be done with nodes, alike on a client and inside a transaction. Paths begin with a slash, or are relative
 * to the home of the client's domain (`/local/domain/<domid>`). Calls reject with {@link XenstoreError}; on one
 * connection they are carried out in the order in which they were made.
 */
export interface XenstoreOperations {
  /** The value of a node as text (UTF-8). Rejects with ENOENT when there is none, EACCES when it may not be read. */
  read(path: string, options?: OperationOptions): Promise<string>;
  /** The value of a node as it is. */
  readBytes(path: string, options?: OperationOptions): Promise<Uint8Array>;
  /** {@link read}, but undefined for a node that does not exist. */
  tryRead(path: string, options?: OperationOptions): Promise<string | undefined>;
  /** Whether there is such a node. Rejects with EACCES where this domain may not know. */
  exists(path: string, options?: OperationOptions): Promise<boolean>;
  /** Sets the value of a node; creates it, and what is missing above it. */
  write(path: string, value: XenstoreValue, options?: OperationOptions): Promise<void>;
  /** Creates an empty node, and what is missing above it; leaves one that exists as it is. */
  mkdir(path: string, options?: OperationOptions): Promise<void>;
  /** Removes a node and all below it. One that does not exist is fine. */
  remove(path: string, options?: OperationOptions): Promise<void>;
  /** The names of the children of a node, in the daemon's order, however many. */
  directory(path: string, options?: OperationOptions): Promise<string[]>;
  /** {@link directory}, but undefined for a node that does not exist. */
  tryDirectory(path: string, options?: OperationOptions): Promise<string[] | undefined>;
  /**
   * A node and all below it, parents before their children, in the daemon's order; several are asked for at once. What is
   * gone by the time it is looked at is left out, what may not be read has no value. Outside of a transaction it is no
   * picture of one moment. Throws ENOENT when the first node does not exist.
   */
  walk(path: string, options?: WalkOptions): AsyncGenerator<WalkedNode, void, undefined>;
  /** The permissions of a node; the first entry is its owner and the access of everybody else. */
  getPermissions(path: string, options?: OperationOptions): Promise<Permission[]>;
  /** Sets them. Rejects with ENOENT where there is no such node, or where the daemon does not know its new owner. */
  setPermissions(path: string, permissions: readonly Permission[], options?: OperationOptions): Promise<void>;
}
