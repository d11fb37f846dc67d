import { printable } from '@xenpv/xenbus';
import { type Level, type Logger, pino } from 'pino';
import { isJournalStream, Journal } from './journal/journal.js';
import { LogSink, type WriteBytes, writeWithoutWaiting } from './log-sink.js';
import { type LogRecord, priorityOf, recordText } from './record.js';

/** How lines look: JSON for collectors, `<priority>text` for the journal, plain text for a person. */
export type LogFormat = 'json' | 'journal' | 'text';

/** The journal when systemd connected standard error to it, text on a terminal, otherwise JSON. */
export function defaultLogFormat(): LogFormat {
  if (isJournalStream(2)) return 'journal';
  return process.stderr.isTTY ? 'text' : 'json';
}

/** The process's log, and how much of it was lost. */
export interface ProcessLog {
  readonly logger: Logger;
  readonly sink: LogSink;
}

/** Where the lines go. */
export interface LogTargets {
  /** Standard error unless given. */
  readonly write?: WriteBytes | undefined;
  /** The journal's socket, and what it does not take goes to `write`; of the format `journal` unless given. */
  readonly journal?: Journal | undefined;
}

/** Logs to the journal or to standard error, whatever becomes of them. */
export function createLogger(level: Level, format: LogFormat, targets: LogTargets = {}): ProcessLog {
  const { write = writeWithoutWaiting(2), journal = format === 'journal' ? Journal.ofStandardError() : undefined } =
    targets;
  const asLine = (json: string) => formatLine(json, format);
  const sink = new LogSink(write, (lines, reason) =>
    asLine(JSON.stringify({ level: 40, lines, reason, msg: 'lines of this log were lost' })),
  );
  const options = { level, base: null, timestamp: format === 'json' };
  const put = (json: string) => {
    if (!journal?.write(JSON.parse(json) as LogRecord)) sink.write(asLine(json));
  };
  return { sink, logger: pino(options, { write: put }) };
}

const NAMES: Record<number, string> = { 10: 'trace', 20: 'debug', 30: 'info', 40: 'warn', 50: 'error', 60: 'fatal' };

/** A line of pino's as text: the message, then what else it says as key=value. No value begins another line. */
export function formatLine(line: string, format: LogFormat): string {
  if (format === 'json') return `${printable(line.trimEnd())}\n`;
  const record = JSON.parse(line) as LogRecord;
  const lead = format === 'journal' ? `<${priorityOf(record.level)}>` : `${(NAMES[record.level] ?? '').padEnd(5)} `;
  return `${lead}${recordText(record)}\n`;
}
