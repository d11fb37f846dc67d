import { constants } from 'node:os';
import { printable } from '@xenpv/xenbus';
import { type LogRecord, priorityOf, recordText } from '../record.js';
import type { JournalField } from './entry.js';
import { logEvent } from './log-events.js';

const IDENTIFIER = 'xen-blockd';
/** `daemon`. */
const FACILITY = '3';
/** What a field that only we have begins with. */
const PREFIX = 'XEN_BLOCKD_';
const MOST_NAME_LENGTH = 64;
/** Whose newlines stay. */
const SEVERAL_LINES = 'stack';

/**
 * The fields of a line of the log. `MESSAGE` is what the line says elsewhere too. Others are for `journalctl`: the disk, its
 * guest, the errno as a number, and each further value with the prefix `XEN_BLOCKD_`.
 */
export function journalFields(record: LogRecord): JournalField[] {
  const { level, msg, event, device, guest, ...others } = record;
  const id = logEvent(record)?.id;
  const errno = errnoOf(others.errno ?? others.code);
  const fields: [string, unknown][] = [
    ['MESSAGE', recordText(record)],
    ['PRIORITY', priorityOf(level)],
    ['SYSLOG_IDENTIFIER', IDENTIFIER],
    ['SYSLOG_FACILITY', FACILITY],
    ['MESSAGE_ID', id],
    ['DEVICE', device],
    ['GUEST', guest],
    ['ERRNO', errno],
    [`${PREFIX}EVENT`, event],
    ...Object.entries(others).map(([key, value]): [string, unknown] => [fieldName(key), value]),
  ];
  return fields.flatMap(([name, value]) => (value === undefined ? [] : [[name, valueText(name, value)] as const]));
}

/** `inFlight` is XEN_BLOCKD_IN_FLIGHT. */
function fieldName(key: string): string {
  const words = key.replace(/[A-Z]/g, '_$&').toUpperCase();
  return `${PREFIX}${words.replace(/[^A-Z0-9_]/g, '_')}`.slice(0, MOST_NAME_LENGTH);
}

/** Nobody who is told of begins a line; only the lines of a stack are several. */
function valueText(name: string, value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  if (name !== fieldName(SEVERAL_LINES)) return printable(text);
  return text.split('\n').map(printable).join('\n');
}

/** Of `ENOSPC`; undefined for what is no errno of Linux's. */
function errnoOf(name: unknown): number | undefined {
  return typeof name === 'string' ? (constants.errno as Readonly<Record<string, number>>)[name] : undefined;
}
