import { type QmpCommand, qmpCommand } from '@xenpv/qmp';
import type { DaemonStatus } from '../../status/daemon-status.js';
import type { Controlled } from '../controlled.js';
import { qmpVersion } from '../qemu-version.js';

/** Commands about the program itself. */
export function processCommands(controlled: Controlled): Record<string, QmpCommand> {
  return {
    /** Whether the daemon serves: `running`, or `prelaunch` while it starts. */
    'query-status': qmpCommand({
      members: {},
      returns: { object: { running: 'bool', status: 'str' } },
      run: () => {
        const running = controlled.backend() !== undefined;
        return { running, singlestep: false, status: running ? 'running' : 'prelaunch' };
      },
    }),
    /** The name: xen-blockd. */
    'query-name': qmpCommand({
      members: {},
      returns: { object: { 'name?': 'str' } },
      run: () => ({ name: 'xen-blockd' }),
    }),
    /** libxl asks for it after a start. */
    'query-chardev': qmpCommand({ members: {}, returns: { array: 'any' }, run: () => [] }),
    /** What it is, for `xen-blockd status`. */
    'x-query-daemon': qmpCommand({
      members: {},
      returns: {
        object: {
          version: 'str',
          pid: 'int',
          since: 'str',
          types: 'any',
          serving: 'bool',
          'domid?': 'int',
          memoryBytes: 'size',
          'configuration?': 'str',
        },
      },
      run: () => daemonStatus(controlled),
    }),
    /** The disks stay connected for the next process, as after SIGTERM. */
    quit: qmpCommand({
      members: {},
      run: () => {
        // The answer goes out first.
        setImmediate(controlled.quit);
      },
    }),
  };
}

function daemonStatus({ types, backend, configuration }: Controlled): DaemonStatus {
  const domid = backend()?.ownDomid;
  return {
    version: qmpVersion().package,
    pid: process.pid,
    since: new Date(performance.timeOrigin).toISOString(),
    types,
    serving: domid !== undefined,
    ...(domid === undefined ? {} : { domid }),
    memoryBytes: process.memoryUsage.rss(),
    ...(configuration === undefined ? {} : { configuration }),
  };
}
