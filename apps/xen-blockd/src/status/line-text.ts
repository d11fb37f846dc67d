import { printable } from '@xenpv/xenbus';

/** Of a text that a guest or a toolstack caused to be long. */
const MAX_LENGTH = 500;

/** A line as the log gets it. */
export interface NotedLine {
  readonly level: string;
  readonly message: string;
  readonly fields?: Readonly<Record<string, unknown>> | undefined;
}

/** A line in words, with what its fields add to them; of bounded length, without what would disturb a terminal. */
export function lineText({ message, fields }: NotedLine): string {
  const { operation, errno, reason } = fields ?? {};
  const details = [operation, errno, reason].filter((value) => typeof value === 'string' || typeof value === 'number');
  return printable([message, ...details].join(' ').slice(0, MAX_LENGTH));
}
