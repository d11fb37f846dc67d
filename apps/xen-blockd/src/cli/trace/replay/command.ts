import { type Command, InvalidArgumentError } from 'commander';
import { integer } from '../../option-parsers.js';
import type { ReplayOptions } from './options.js';

const DEPTH = 128;

const HELP = `
What is replayed is what the storage was given: the lines "storage" of the file. It comes at the times that it had then, or
with --fast as soon as fewer than --depth requests are in flight. The report has latencies of the storage, then and now.

A trace has no data. Writes write a pattern, and discards discard: with --overwrite what IMAGE had is gone. Without it a trace that
has any is refused, unless --reads-only leaves them out. IMAGE is a raw file or block device that nobody else uses.

Examples:
  xen-blockd trace replay a.trace /images/copy.img --reads-only
  xen-blockd trace replay a.trace /dev/vg0/scratch --overwrite --fast --depth 32
`;

/** `xen-blockd trace replay`. */
export function addReplay(trace: Command): void {
  trace
    .command('replay')
    .description('do the requests of a trace again, on an image, and report')
    .argument('<file>', 'what trace --write has written')
    .argument('<image>', 'a raw file, or a block device')
    .option('--fast', 'as fast as possible, whatever the times were')
    .option('--speed <times>', 'so many times as quick as it was', times, 1)
    .option('--overwrite', 'do writes and discards too: what the image has is lost')
    .option('--reads-only', 'leave writes, flushes and discards out')
    .option('--depth <requests>', 'in flight at once', integer([1, 4096]), DEPTH)
    .option('--json', 'print JSON')
    .addHelpText('after', HELP)
    .action(async (file: string, image: string, _options: object, command: Command) => {
      // --json may have been taken for the command's above, which has it too.
      const options = command.optsWithGlobals<ReplayOptions>();
      const { replayTrace } = await import('./replay.js');
      await replayTrace(file, image, options);
    });
}

function times(text: string): number {
  const value = Number(text);
  if (/^\d+(\.\d+)?$/.test(text) && value >= 0.001 && value <= 1000) return value;
  throw new InvalidArgumentError('Expected a number from 0.001 to 1000.');
}
