import { isXenstoreError, quoted, XenstoreError } from '../errors.js';
import type { Request } from '../wire/connection.js';
import { isSpecialPath } from '../wire/paths.js';
import { decodeStrings, decodeText, encodeStrings, nothing, XsOp, xsOpName } from '../wire/wire.js';
import type { OperationOptions, WalkedNode, WalkOptions, XenstoreOperations, XenstoreValue } from './operations.js';
import { checkPermissions, formatPermission, type Permission, parsePermission } from './permissions.js';
import { walk } from './walk.js';

/** What a missing node means to those who do not mind. */
const UNDEFINED = { value: undefined };
const FALSE = { value: false };

/** How often a listing in parts starts again because the directory changed between two parts. */
const MAX_LISTING_RESTARTS = 100;

/** The operations on nodes, over whatever sends one request: a client, a transaction, the looks of a `waitFor`. */
export abstract class NodeOperations implements XenstoreOperations {
  protected abstract send<T>(request: Request<T>, options: OperationOptions | undefined): Promise<T>;

  read(path: string, options?: OperationOptions): Promise<string> {
    return this.#ofPath(XsOp.read, path, decodeText, options);
  }

  readBytes(path: string, options?: OperationOptions): Promise<Uint8Array> {
    return this.#ofPath(XsOp.read, path, copyBytes, options);
  }

  tryRead(path: string, options?: OperationOptions): Promise<string | undefined> {
    return this.#ofPath<string | undefined>(XsOp.read, path, decodeText, options, UNDEFINED);
  }

  exists(path: string, options?: OperationOptions): Promise<boolean> {
    return this.#ofPath(XsOp.read, path, isThere, options, FALSE);
  }

  async write(path: string, value: XenstoreValue, options?: OperationOptions): Promise<void> {
    const bytes = valueBytes(path, value);
    const payload = Buffer.allocUnsafe(path.length + 1 + bytes.length);
    payload.write(path, 0, 'latin1');
    payload[path.length] = 0;
    payload.set(bytes, path.length + 1);
    return this.send({ type: XsOp.write, path, payload, decode: nothing }, options);
  }

  mkdir(path: string, options?: OperationOptions): Promise<void> {
    return this.#ofPath(XsOp.mkdir, path, nothing, options);
  }

  remove(path: string, options?: OperationOptions): Promise<void> {
    return this.#ofPath(XsOp.remove, path, nothing, options, UNDEFINED);
  }

  directory(path: string, options?: OperationOptions): Promise<string[]> {
    return this.#listing<never>(path, options);
  }

  async tryDirectory(path: string, options?: OperationOptions): Promise<string[] | undefined> {
    // Where it comes in parts it may go missing between two of them.
    return this.#listing<undefined>(path, options, UNDEFINED).catch(undefinedIfMissing);
  }

  getPermissions(path: string, options?: OperationOptions): Promise<Permission[]> {
    return this.#ofPath(XsOp.getPermissions, path, decodePermissions, options);
  }

  async setPermissions(path: string, permissions: readonly Permission[], options?: OperationOptions): Promise<void> {
    checkPermissions(permissions, path);
    const payload = encodeStrings(path, ...permissions.map(formatPermission));
    try {
      await this.send({ type: XsOp.setPermissions, path, payload, decode: nothing }, options);
    } catch (error) {
      if (!isXenstoreError(error, 'ENOENT') || !(isSpecialPath(path) || (await this.exists(path, options))))
        throw error;
      const message = `the daemon knows no domain ${permissions[0].domid}, which is to own the node`;
      throw new XenstoreError('ENOENT', xsOpName(XsOp.setPermissions), message, { path, cause: error });
    }
  }

  walk(path: string, options: WalkOptions = {}): AsyncGenerator<WalkedNode, void, undefined> {
    return walk(this, path, options);
  }

  #listing<T>(path: string, options: OperationOptions | undefined, missing?: { readonly value: T }) {
    return this.#ofPath<string[] | T>(XsOp.directory, path, decodeStrings, options, missing).catch((error) => {
      if (!isXenstoreError(error, 'E2BIG')) throw error;
      return this.#directoryInParts(path, options, error);
    });
  }

  #ofPath<T>(
    type: number,
    path: string,
    decode: Request<T>['decode'],
    options?: OperationOptions,
    missing?: Request<T>['missing'],
  ): Promise<T> {
    return this.send({ type, path, payload: pathPayload(path), decode, missing }, options);
  }

  /** DIRECTORY_PART: the listing in pieces of one payload each, all of the same generation of the node. */
  async #directoryInParts(path: string, options: OperationOptions | undefined, tooBig: Error): Promise<string[]> {
    let listing = new Listing();
    for (let restarts = 0; ; ) {
      const payload = encodeStrings(path, String(listing.bytes));
      const decode = copyBytes;
      const part = await this.send({ type: XsOp.directoryPart, path, payload, decode }, options).catch((error) => {
        throw isXenstoreError(error, 'ENOSYS') ? tooBig : error;
      });
      const progress = listing.add(part, path);
      if (progress === 'complete') return listing.names();
      if (progress === 'more') continue;
      if (++restarts > MAX_LISTING_RESTARTS) {
        const message = `the directory changed ${restarts} times while it was listed`;
        throw new XenstoreError('EAGAIN', 'directoryPart', message, { path });
      }
      listing = new Listing();
    }
  }
}

/** A listing that comes in parts: `generation|name|name|...`, an empty name at the end of the last. */
class Listing {
  bytes = 0;
  #generation: string | undefined;
  readonly #parts: Uint8Array[] = [];

  add(part: Uint8Array, path: string): 'complete' | 'more' | 'changed' {
    const end = part.indexOf(0);
    const names = part.subarray(end + 1);
    if (end < 0 || names.length === 0) {
      throw new XenstoreError('ERR_PROTOCOL', 'directoryPart', 'a part without names', { path });
    }
    const generation = decodeText(part.subarray(0, end));
    if (this.#generation !== undefined && this.#generation !== generation) return 'changed';
    this.#generation = generation;
    const complete = names.at(-1) === 0 && (names.length === 1 || names.at(-2) === 0);
    this.#parts.push(complete ? names.subarray(0, -1) : names);
    this.bytes += names.length;
    return complete ? 'complete' : 'more';
  }

  names(): string[] {
    return decodeStrings(Buffer.concat(this.#parts));
  }
}

function pathPayload(path: string): Uint8Array {
  const payload = Buffer.allocUnsafe(path.length + 1);
  payload.write(path, 0, 'latin1');
  payload[path.length] = 0;
  return payload;
}

function valueBytes(path: string, value: XenstoreValue): Uint8Array {
  if (typeof value === 'string') return Buffer.from(value);
  if (value instanceof Uint8Array) return value;
  if (typeof value === 'boolean') return Buffer.from(value ? '1' : '0');
  if (typeof value === 'bigint' || Number.isSafeInteger(value)) return Buffer.from(String(value));
  const message = `${String(value)} cannot be a value; take text, bytes, a whole number or a boolean`;
  throw new XenstoreError('ERR_INVALID_ARGUMENT', xsOpName(XsOp.write), message, { path });
}

function decodePermissions(payload: Uint8Array, path: string | undefined): Permission[] {
  return decodeStrings(payload).map((text) => {
    const permission = parsePermission(text);
    if (permission !== undefined) return permission;
    const message = `${quoted(text)} is no permission`;
    throw new XenstoreError('ERR_PROTOCOL', xsOpName(XsOp.getPermissions), message, { path });
  });
}

function undefinedIfMissing(error: unknown): undefined {
  if (!isXenstoreError(error, 'ENOENT')) throw error;
}

function copyBytes(payload: Uint8Array): Uint8Array {
  return Uint8Array.from(payload);
}

function isThere(): boolean {
  return true;
}
