import { type Command, InvalidArgumentError } from 'commander';
import { integer } from '../option-parsers.js';
import { addQuery, DISK, seconds } from '../queries/query.js';
import { OPERATIONS } from './lines.js';
import type { TraceOptions } from './options.js';
import { addReplay } from './replay/command.js';

const MOST_LINES = 2 ** 40;

const HELP = `
A line is a request at one of its points:
  taken     out of the guest's ring
  storage   given to the storage; latency is since it was taken
  done      the storage has answered, or the request is refused; latency is since the storage got it
  pushed    the answer is in the guest's ring; latency is since it was taken

It ends with Ctrl-C, with the disk, and with the daemon. A reader that is slow loses lines, and is told how many; guests are
not kept waiting by any. Nobody traces: it costs nothing.

Examples:
  xen-blockd trace web1:xvda --min-latency 20          requests that took 20 ms or more, all of their points
  xen-blockd trace web1:xvda --op write --op flush     what the guest makes durable
  xen-blockd trace web1:xvda --write a.trace --seconds 60
  xen-blockd trace replay a.trace /images/test.img     the same requests, on another image
`;

/** `xen-blockd trace`. */
export function addTrace(program: Command): void {
  const trace = addQuery(program, 'trace', 'show the requests of a disk at their points, as they pass')
    .argument('<disk>', DISK)
    .option(
      '--op <operation>',
      `only requests of this operation, one of ${OPERATIONS.join(', ')}; may be repeated`,
      operation,
    )
    .option('--queue <number>', 'only requests of this ring', integer([0, 255]))
    .option('--min-latency <ms>', 'only requests that took so long, which are shown when they are answered', seconds)
    .option('--limit <lines>', 'end after so many lines', integer([1, MOST_LINES]))
    .option('--seconds <seconds>', 'end after so long', seconds)
    .option('--write <file>', 'write JSON lines to a new file, to look at or to replay')
    .addHelpText('after', HELP)
    .action(async (disk: string, options: TraceOptions) => {
      const { traceDisk } = await import('./session.js');
      await traceDisk(disk, options);
    });
  addReplay(trace);
}

/** One more of an option that may be repeated. */
function operation(name: string, before: readonly string[] = []): readonly string[] {
  if ((OPERATIONS as readonly string[]).includes(name)) return [...before, name];
  throw new InvalidArgumentError(`Expected one of ${OPERATIONS.join(', ')}.`);
}
