import { type QmpCommand, qmpCommand } from '@xenpv/qmp';
import type { Controlled } from '../controlled.js';

/** Commands about the program itself. */
export function processCommands(controlled: Controlled): Record<string, QmpCommand> {
  return {
    'query-status': qmpCommand({
      members: {},
      returns: { object: { running: 'bool', status: 'str' } },
      run: () => {
        const running = controlled.backend() !== undefined;
        return { running, singlestep: false, status: running ? 'running' : 'prelaunch' };
      },
    }),
    'query-name': qmpCommand({
      members: {},
      returns: { object: { 'name?': 'str' } },
      run: () => ({ name: 'xen-blockd' }),
    }),
    /** libxl asks for it after a start. */
    'query-chardev': qmpCommand({ members: {}, returns: { array: 'any' }, run: () => [] }),
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
