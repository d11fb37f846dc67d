import type { Command } from 'commander';
import { DAEMON_ANSWER } from '../../control/answers.js';
import { BlockdError, ExitCode } from '../../errors.js';
import { type DaemonStatus, formatOverview, type Overview, overviewOf } from '../../status/daemon-status.js';
import { formatJson } from '../../status/format.js';
import { addQuery, answerOf, disksOf, print, type QueryOptions } from './query.js';

const HELP = `
Exit codes, for monitoring: 0 all is well; 1 something is wrong, such as a disk that is refused, held or stopped; 69 the daemon
is not there, or does not answer. With --json the members problems and running say the same.

Examples:
  xen-blockd status                                 how it is, in a few lines
  xen-blockd status --timeout 5 > /dev/null         for monitoring: the exit code says it
  xen-blockd status --json | jq -r '.problems[]'    only what is wrong
`;

/** `xen-blockd status`; `ended` gets the exit code. */
export function addStatus(program: Command, ended: (code: number) => void): void {
  addQuery(program, 'status', 'tell how the daemon is, and what is wrong now; exit code 1 if anything is')
    .addHelpText('after', HELP)
    .action(async (options: QueryOptions) => {
      const overview = await readOverview(options);
      const shown = options.json ? { running: true, ...overview } : overview;
      print(options, shown, (value, look) => formatOverview(value, look));
      ended(overview.problems.length > 0 ? ExitCode.failure : ExitCode.ok);
    });
}

/** Error: ERR_AWAY. */
async function readOverview(options: QueryOptions): Promise<Overview> {
  try {
    const about = { command: 'x-query-daemon', answer: DAEMON_ANSWER, answerMs: ANSWER_MS };
    const daemon = await answerOf<DaemonStatus>(options, about);
    const disks = await disksOf(options, { command: 'x-query-disks', answerMs: ANSWER_MS });
    return overviewOf(daemon, disks, options.socket, Date.now());
  } catch (error) {
    if (!(error instanceof BlockdError)) throw error;
    const { message, op, path } = error;
    if (options.json) process.stdout.write(formatJson({ running: false, problems: [message] }));
    throw new BlockdError('ERR_AWAY', op, message, { path, cause: error });
  }
}

/** Nothing that is asked here waits for storage. */
const ANSWER_MS = 10_000;
