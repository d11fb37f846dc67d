/**
 * Nodes of `blockdev-add`: names for images that disks may be made of later. They are words only, nothing is opened before
 * a disk uses them, and they are forgotten with the process: a disk has its image's path and format in xenstore.
 */
import { QmpError } from '@xenpv/qmp';
import { IMAGE_FORMATS } from '@xenpv/xen-block';
import { formatOf } from '../images/storage-daemon/arguments.js';

/** QEMU's drivers of what is below a format. */
const PROTOCOLS = ['file', 'host_device'] as const;
const FORMATS = ['raw', 'vpc', ...IMAGE_FORMATS.filter((format) => format !== 'vhd')];

/** What `blockdev-add` may be given as `driver`. */
export const NODE_DRIVERS: readonly string[] = [...PROTOCOLS, ...FORMATS];

export interface NewNode {
  readonly driver: string;
  readonly 'node-name': string;
  readonly filename?: string | undefined;
  /** The name of a node, or a node without a name. */
  readonly file?: unknown;
  readonly 'read-only'?: boolean | undefined;
  /** The disk of which a qcow2 image gets what its guest overwrites, by the name that it has by itself. */
  readonly backing?: string | undefined;
}

export interface BlockNode {
  readonly name: string;
  readonly driver: string;
  /** A whole path. */
  readonly filename: string;
  /** As in an xl config. */
  readonly format: string;
  readonly readOnly: boolean;
  /** The node that it is made of. */
  readonly file: string | undefined;
  /** See {@link NewNode.backing}: it is for a backup that is pulled. */
  readonly backing: string | undefined;
}

export class BlockNodes {
  readonly #nodes = new Map<string, BlockNode>();
  /** Names of disks, by the node that they have. */
  readonly #users = new Map<string, string>();
  /** Exports and jobs, by the node that each has open. */
  readonly #openBy = new Map<string, string>();

  /** Errors: QmpError, a name that is taken, a file that is no node, a path that is none. */
  add(node: NewNode): void {
    const { 'node-name': name, driver } = node;
    if (!/^[A-Za-z][A-Za-z0-9._-]{0,30}$/.test(name)) throw QmpError.refusal(`Invalid node-name: '${name}'`);
    if (this.#nodes.has(name)) throw QmpError.refusal(`Duplicate nodes with node-name='${name}'`);
    const isProtocol = (PROTOCOLS as readonly string[]).includes(driver);
    if (isProtocol && node.file !== undefined) throw QmpError.refusal(`Parameter 'file' is unexpected`);
    if (!isProtocol && node.filename !== undefined) throw QmpError.refusal(`Parameter 'filename' is unexpected`);
    const below = isProtocol ? { filename: pathOf(node.filename), file: undefined } : this.#below(node.file);
    const format = isProtocol ? 'raw' : formatOf(driver);
    const { backing, 'read-only': readOnly = false } = node;
    if (backing !== undefined && driver !== 'qcow2') throw QmpError.refusal(`Parameter 'backing' is for driver qcow2`);
    this.#nodes.set(name, { name, driver, format, readOnly, backing, ...below });
  }

  /** Errors: QmpError, there is none, or something uses it. */
  remove(name: string): void {
    this.get(name);
    const user = this.#userOf(name) ?? [...this.#nodes.values()].find(({ file }) => file === name)?.name;
    if (user !== undefined) throw QmpError.refusal(`Node ${name} is in use by ${user}`);
    this.#nodes.delete(name);
  }

  get(name: string): BlockNode {
    const node = this.#nodes.get(name);
    if (!node) throw QmpError.refusal(`Failed to find node with node-name='${name}'`);
    return node;
  }

  /** A disk has the node now. Errors: another one has; it is the scratch image of a backup. */
  use(name: string, user: string): void {
    this.#mustBeFree(name);
    const { backing } = this.get(name);
    if (backing !== undefined)
      throw QmpError.refusal(`Node ${name} is for a backup of ${backing}: it is no disk's image`);
    this.#users.set(name, user);
  }

  /** `by`, as `export x`, has the node open until {@link close}. Error: something uses it. */
  open(name: string, by: string): void {
    this.#mustBeFree(name);
    this.#openBy.set(name, by);
  }

  close(name: string): void {
    this.#openBy.delete(name);
  }

  /** The disk is gone. */
  release(user: string): void {
    for (const [name, other] of this.#users) if (other === user) this.#users.delete(name);
  }

  /** The disk that has a node, by what it was called in {@link use}. */
  userOf(name: string): string | undefined {
    return this.#users.get(name);
  }

  /** The node that a disk has. */
  nodeOf(user: string): string | undefined {
    for (const [name, other] of this.#users) if (other === user) return name;
    return undefined;
  }

  /** Those that no disk has. */
  get unused(): BlockNode[] {
    return [...this.#nodes.values()].filter(({ name }) => !this.#users.has(name));
  }

  #mustBeFree(name: string): void {
    const user = this.#userOf(name);
    if (user !== undefined) throw QmpError.refusal(`Node ${name} is in use by ${user}`);
  }

  #userOf(name: string): string | undefined {
    return this.#openBy.get(name) ?? this.#users.get(name);
  }

  #below(file: unknown): { readonly filename: string; readonly file: string | undefined } {
    if (typeof file === 'string') {
      const { filename, format } = this.get(file);
      if (format !== 'raw') throw QmpError.refusal(`node ${file} is no file: a format of a format is not served`);
      return { filename, file };
    }
    const { driver, filename, ...rest } = (file ?? {}) as Record<string, unknown>;
    if (file === undefined) throw QmpError.refusal("Parameter 'file' is missing");
    if (!(PROTOCOLS as readonly unknown[]).includes(driver) || Object.keys(rest).length > 0) {
      throw QmpError.refusal("Parameter 'file' must be a node's name, or a driver file or host_device with a filename");
    }
    return { filename: pathOf(filename), file: undefined };
  }
}

function pathOf(filename: unknown): string {
  if (typeof filename === 'string' && filename.startsWith('/')) return filename;
  throw QmpError.refusal(`filename ${JSON.stringify(filename ?? '')}: expected a whole path, as /images/a.img`);
}
