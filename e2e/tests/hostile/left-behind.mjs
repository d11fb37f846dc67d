/** What a guest may leave behind in dom0. */
import { holdings } from '../../dom0/daemon.mjs';
import { sh, until } from '../../dom0/shell.mjs';

const PATIENCE_SECONDS = 30;
/** Errors of devices go with their devices; where they were is made with the first and stays. */
const EMPTY_AT_LAST = '/local/domain/0/error';

/**
 * Counts of what serving takes: of the daemon's process its descriptors, mapped grants and threads but those of the kernel's
 * io_uring, which it starts and ends as it likes; of dom0 the event channels of such processes and the nodes below its own
 * in xenstore; and the files that daemon keeps for the process after it.
 */
async function counted(daemon) {
  const text = await sh(
    [
      `echo threads $(cat /proc/${daemon.pid}/task/*/comm | grep -vc ^iou-)`,
      `echo nodes $(xenstore-ls -f /local/domain/0 | grep -vc '^${EMPTY_AT_LAST} = ""')`,
      'echo files $(find /run/xen-blockd | wc -l)',
    ].join('; '),
  );
  const others = text
    .trim()
    .split('\n')
    .map((line) => line.split(' '));
  return { ...(await holdings(daemon)), ...Object.fromEntries(others.map(([name, count]) => [name, Number(count)])) };
}

/** Counts, as of now. Resolves with a function that waits until there is no more of anything. Errors of that: there is. */
export async function nothingLeft(daemon) {
  const before = await counted(daemon);
  return async () => {
    let after;
    const isGone = async () => {
      after = await counted(daemon);
      return Object.entries(before).every(([name, count]) => after[name] <= count);
    };
    await until('release of what the hostile guest took', isGone, { timeout: PATIENCE_SECONDS, every: 1 }).catch(
      (error) => {
        throw new Error(`${error.message}: ${JSON.stringify(after)}, before it ${JSON.stringify(before)}`);
      },
    );
    return after;
  };
}
