import { Conversation } from '../../control/ask-daemon.js';
import { packageVersion } from '../../package-root.js';
import type { DaemonStatus } from '../../status/daemon-status.js';
import { type Finding, good, note } from './finding.js';

const NAME = 'running daemons';
const ANSWER_MS = 10_000;

/** Whether it is one daemon, of this version, that answers. `pids`: of all daemons that run. */
export async function checkRunning(pids: readonly number[], socket: string | false): Promise<Finding[]> {
  const several =
    pids.length > 1
      ? note(
          NAME,
          `${pids.length} run: pid ${pids.join(', ')}`,
          'give each types of its own, or stop all but one: kill PID',
        )
      : good(NAME, pids.length === 0 ? 'none' : `one, pid ${pids[0]}`);
  return pids.length === 0 || socket === false ? [several] : [several, await answering(socket)];
}

async function answering(socket: string): Promise<Finding> {
  const name = 'control socket';
  try {
    await using conversation = new Conversation(socket, { answerMs: ANSWER_MS });
    const { version, pid, configuration } = await conversation.ask<DaemonStatus>('x-query-daemon');
    const installed = `xen-blockd ${packageVersion()}`;
    if (version !== installed) {
      const detail = `the daemon that runs, pid ${pid}, is ${version}; installed is ${installed}`;
      return note(name, detail, 'systemctl restart xen-blockd: guests notice a pause');
    }
    return good(name, `${socket} answers${configuration === undefined ? '' : `, with ${configuration}`}`);
  } catch (error) {
    return note(name, (error as Error).message, 'see its log: journalctl -u xen-blockd');
  }
}
