import { type Logger, pino } from 'pino';
import type { LogLevel } from './config.js';

/** How lines look: JSON for collectors, `<priority>text` for the journal, plain text for a person. */
export type LogFormat = 'json' | 'journal' | 'text';

/** The journal when systemd connected standard error to it, text on a terminal, otherwise JSON. */
export function defaultLogFormat(): LogFormat {
  if (process.env.JOURNAL_STREAM) return 'journal';
  return process.stderr.isTTY ? 'text' : 'json';
}

/** Logs to standard error. */
export function createLogger(level: LogLevel, format: LogFormat): Logger {
  const options = { level, base: null, timestamp: format === 'json' };
  if (format === 'json') return pino(options, pino.destination({ dest: 2, sync: true }));
  return pino(options, { write: (line: string) => void process.stderr.write(formatLine(line, format)) });
}

const NAMES: Record<number, string> = { 10: 'trace', 20: 'debug', 30: 'info', 40: 'warn', 50: 'error', 60: 'fatal' };
/** syslog's priorities, as sd-daemon(3) has them. */
const PRIORITIES: Record<number, number> = { 10: 7, 20: 7, 30: 6, 40: 4, 50: 3, 60: 2 };

/** A line of pino's as text: the message, then what else it says as key=value. */
export function formatLine(line: string, format: 'journal' | 'text'): string {
  const { level, msg, ...fields } = JSON.parse(line) as { level: number; msg?: string };
  const lead = format === 'journal' ? `<${PRIORITIES[level] ?? 6}>` : `${(NAMES[level] ?? '').padEnd(5)} `;
  const rest = Object.entries(fields).map(([key, value]) => ` ${key}=${formatValue(value)}`);
  return `${lead}${msg ?? ''}${rest.join('')}\n`;
}

function formatValue(value: unknown): string {
  if (typeof value === 'string' && /^[^\s"=]+$/.test(value)) return value;
  return JSON.stringify(value);
}
