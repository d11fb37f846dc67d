import { QmpError } from '../errors.js';
import { isRecord } from '../wire/messages.js';
import type { QmpMembers, QmpType } from './types.js';

/** `value` has these members, and no others. Error: ERR_COMMAND, which names the first that does not fit. */
export function checkMembers(value: unknown, members: QmpMembers, path = ''): void {
  if (!isRecord(value)) throw mismatch(path === '' ? 'arguments' : path, 'object');
  const known = new Set(Object.keys(members).map(bareName));
  const strange = Object.keys(value).find((name) => !known.has(name));
  if (strange !== undefined) throw QmpError.refusal(`Parameter '${joined(path, strange)}' is unexpected`);
  for (const [name, type] of Object.entries(members)) {
    const bare = bareName(name);
    if (Object.hasOwn(value, bare)) checkType(value[bare], type, joined(path, bare));
    else if (bare === name) throw QmpError.refusal(`Parameter '${joined(path, bare)}' is missing`);
  }
}

/** The name of a member without the mark of an optional one. */
export function bareName(name: string): string {
  return name.endsWith('?') ? name.slice(0, -1) : name;
}

function checkType(value: unknown, type: QmpType, path: string): void {
  if (typeof type === 'string') checkSimple(value, type, path);
  else if ('object' in type) checkMembers(value, type.object, path);
  else if ('enum' in type) checkEnum(value, type.enum, path);
  else checkArray(value, type.array, path);
}

function checkArray(value: unknown, type: QmpType, path: string): void {
  if (!Array.isArray(value)) throw mismatch(path, 'array');
  for (const [index, item] of value.entries()) checkType(item, type, `${path}[${index}]`);
}

function checkSimple(value: unknown, type: Extract<QmpType, string>, path: string): void {
  if (type === 'any') return;
  if (type === 'str' && typeof value !== 'string') throw mismatch(path, 'string');
  if (type === 'bool' && typeof value !== 'boolean') throw mismatch(path, 'boolean');
  if (type === 'number' && typeof value !== 'number') throw mismatch(path, 'number');
  if (type !== 'int' && type !== 'size') return;
  if (!Number.isSafeInteger(value)) throw mismatch(path, 'integer');
  if (type === 'size' && (value as number) < 0) throw QmpError.refusal(`Parameter '${path}' must not be negative`);
}

function checkEnum(value: unknown, allowed: readonly string[], path: string): void {
  if (typeof value !== 'string') throw mismatch(path, 'string');
  if (allowed.includes(value)) return;
  throw QmpError.refusal(`Parameter '${path}' does not accept value '${value}'; it is one of ${allowed.join(', ')}`);
}

function mismatch(path: string, expected: string): QmpError {
  return QmpError.refusal(`Invalid parameter type for '${path}', expected: ${expected}`);
}

function joined(path: string, name: string): string {
  return path === '' ? name : `${path}.${name}`;
}
