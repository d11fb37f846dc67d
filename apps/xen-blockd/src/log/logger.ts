import { printable } from '@xenpv/xenbus';
import { type Level, type Logger, pino } from 'pino';
import { LogSink, type WriteBytes, writeWithoutWaiting } from './log-sink.js';

/** How lines look: JSON for collectors, `<priority>text` for the journal, plain text for a person. */
export type LogFormat = 'json' | 'journal' | 'text';

/** The journal when systemd connected standard error to it, text on a terminal, otherwise JSON. */
export function defaultLogFormat(): LogFormat {
  if (process.env.JOURNAL_STREAM) return 'journal';
  return process.stderr.isTTY ? 'text' : 'json';
}

/** The process's log, and how much of it was lost. */
export interface ProcessLog {
  readonly logger: Logger;
  readonly sink: LogSink;
}

/** Logs to standard error, whatever becomes of it. */
export function createLogger(level: Level, format: LogFormat, write: WriteBytes = writeWithoutWaiting(2)): ProcessLog {
  const asLine = (json: string) => formatLine(json, format);
  const sink = new LogSink(write, (lines, reason) =>
    asLine(JSON.stringify({ level: 40, lines, reason, msg: 'lines of this log were lost' })),
  );
  const options = { level, base: null, timestamp: format === 'json' };
  return { sink, logger: pino(options, { write: (json: string) => sink.write(asLine(json)) }) };
}

const NAMES: Record<number, string> = { 10: 'trace', 20: 'debug', 30: 'info', 40: 'warn', 50: 'error', 60: 'fatal' };
/** syslog's priorities, as sd-daemon(3) has them. */
const PRIORITIES: Record<number, number> = { 10: 7, 20: 7, 30: 6, 40: 4, 50: 3, 60: 2 };

/** A line of pino's as text: the message, then what else it says as key=value. No value begins another line. */
export function formatLine(line: string, format: LogFormat): string {
  if (format === 'json') return `${printable(line.trimEnd())}\n`;
  const { level, msg, event: _, ...fields } = JSON.parse(line) as { level: number; msg?: string; event?: string };
  const lead = format === 'journal' ? `<${PRIORITIES[level] ?? 6}>` : `${(NAMES[level] ?? '').padEnd(5)} `;
  const rest = Object.entries(fields).map(([key, value]) => ` ${key}=${formatValue(value)}`);
  return `${lead}${printable(`${msg ?? ''}${rest.join('')}`)}\n`;
}

function formatValue(value: unknown): string {
  if (typeof value === 'string' && /^[^\s"=]+$/.test(value)) return value;
  return JSON.stringify(value);
}
