import { bareName } from './check.js';
import type { QmpMembers, QmpType } from './types.js';

/** An entry of `query-qmp-schema` (SchemaInfo of QEMU's qapi/introspect.json). */
export type SchemaInfo = { readonly name: string; readonly 'meta-type': string } & Readonly<Record<string, unknown>>;

export interface DescribedCommand {
  /** The members of its `arguments`. */
  readonly members: QmpMembers;
  /** The type of its result, the `ret-type` of the schema. */
  readonly returns: QmpType;
}

const JSON_TYPES = { str: 'string', int: 'int', size: 'int', number: 'number', bool: 'boolean', any: 'value' } as const;

/**
 * The schema of commands and events. Types have numbers for names, as QEMU's have: only those of commands are fixed.
 */
export function introspect(
  commands: ReadonlyMap<string, DescribedCommand>,
  events: Readonly<Record<string, QmpMembers>>,
): SchemaInfo[] {
  const types = new Types();
  const described = [...commands].map(([name, { members, returns }]) => ({
    name,
    'meta-type': 'command',
    'arg-type': types.nameOf({ object: members }),
    'ret-type': types.nameOf(returns),
  }));
  const announced = Object.entries(events).map(([name, members]) => ({
    name,
    'meta-type': 'event',
    'arg-type': types.nameOf({ object: members }),
  }));
  return [...described, ...announced, ...types.infos];
}

/** The types that were met, each once. */
class Types {
  readonly infos: SchemaInfo[] = [];
  readonly #names = new Map<string, string>();

  nameOf(type: QmpType): string {
    if (typeof type === 'string') return this.#simple(type);
    const key = JSON.stringify(type);
    const known = this.#names.get(key);
    if (known !== undefined) return known;
    const name = 'array' in type ? `[${this.nameOf(type.array)}]` : String(this.#names.size);
    this.#names.set(key, name);
    this.infos.push({ name, ...this.#describe(type) });
    return name;
  }

  #simple(type: Extract<QmpType, string>): string {
    const name = type === 'size' ? 'int' : type;
    if (!this.#names.has(name)) {
      this.#names.set(name, name);
      this.infos.push({ name, 'meta-type': 'builtin', 'json-type': JSON_TYPES[type] });
    }
    return name;
  }

  #describe(type: Exclude<QmpType, string>): { 'meta-type': string } & Record<string, unknown> {
    if ('array' in type) return { 'meta-type': 'array', 'element-type': this.nameOf(type.array) };
    if ('enum' in type) return { 'meta-type': 'enum', members: type.enum.map((name) => ({ name })), values: type.enum };
    const members = Object.entries(type.object).map(([name, member]) => ({
      name: bareName(name),
      type: this.nameOf(member),
      ...(name.endsWith('?') ? { default: null } : {}),
    }));
    return { 'meta-type': 'object', members };
  }
}
