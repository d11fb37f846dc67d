import { printable } from '@xenpv/xenbus';

/** A line of the log as pino writes it. */
export interface LogRecord {
  readonly level: number;
  readonly msg?: string;
  /** What kind of line it is, where a limit counts them by kind. */
  readonly event?: string;
  readonly [key: string]: unknown;
}

/** syslog's priorities, as sd-daemon(3) has them. */
const PRIORITIES: Record<number, number> = { 10: 7, 20: 7, 30: 6, 40: 4, 50: 3, 60: 2 };
const INFORMATION = 6;

/** syslog's priority of a level of pino's. */
export function priorityOf(level: number): number {
  return PRIORITIES[level] ?? INFORMATION;
}

/** As one line for a person: the message, then what else there is as key=value. No value begins another line. */
export function recordText({ level: _, event: __, msg, ...fields }: LogRecord): string {
  const rest = Object.entries(fields).map(([key, value]) => ` ${key}=${formatValue(value)}`);
  return printable(`${msg ?? ''}${rest.join('')}`);
}

function formatValue(value: unknown): string {
  if (typeof value === 'string' && /^[^\s"=]+$/.test(value)) return value;
  return JSON.stringify(value);
}
