import { PROGRAM } from './arguments.js';
import type { ProcessEnd } from './helper-process.js';

/** Characters of a reason: what a log line and an error node can hold. */
const MOST = 1000;

/**
 * Why a qemu-storage-daemon ended, in one line: what it said, without its own name and its options, then the exit code
 * or the signal.
 */
export function endReason({ code, signal, stderr, error, adopted }: ProcessEnd, args: readonly string[]): string {
  if (adopted) return `${PROGRAM} ended; another process had started it, so that no more is known`;
  if (error) return `${PROGRAM} cannot be started: ${error.message}`;
  const how = signal === null ? `ended with exit code ${code}` : `was killed by ${signal}`;
  const lines = stderr.split('\n').map((line) => withoutPlace(line.trim(), args));
  const said = shortened(lines.filter((line) => line !== '').join('; '));
  return said === '' ? `${PROGRAM} ${how}` : `${said} (${PROGRAM} ${how})`;
}

/** Whether an image was refused because another program has it locked, in the words of QEMU (block/file-posix.c). */
export function isLocked(error: unknown): boolean {
  const { code, message } = error as { code?: unknown; message?: string };
  return code === 'ERR_IMAGE' && /Failed to (?:get .*lock|lock byte)/.test(message ?? '');
}

/** QEMU names itself and the option that it is at: that is our choice, and tells an operator nothing. */
function withoutPlace(line: string, args: readonly string[]): string {
  const program = `${PROGRAM}: `;
  if (!line.startsWith(program)) return line;
  const text = line.slice(program.length);
  for (let i = 0; i + 1 < args.length; i++) {
    const option = `${args[i]} ${args[i + 1]}: `;
    if (text.startsWith(option)) return text.slice(option.length);
  }
  return text;
}

function shortened(text: string): string {
  return text.length <= MOST ? text : `${text.slice(0, MOST / 2)} … ${text.slice(-MOST / 2)}`;
}
