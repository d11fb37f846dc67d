import type { Command } from 'commander';
import { addQuery } from '../queries/query.js';
import type { UpgradeOptions } from './options.js';

const HELP = `
Install the new version first (apt install ./xen-blockd_*.deb restarts the daemon by itself; npm install -g does not). This command looks
whether a restart is safe now, restarts the service, waits until every disk that was connected is so again, and tells for how long it was
not served. Guests' requests wait meanwhile; none is lost. It refuses while something stands against it, and says what.

Exit codes: 0 done, or nothing to do; 1 refused, or not all disks are back; 69 there is no daemon.

Examples:
  npm install -g xen-blockd && xen-blockd upgrade
  xen-blockd upgrade --check                        whether a restart is safe now, and what is in its way
  xen-blockd upgrade --force                        a restart into the same version
`;

/** `xen-blockd upgrade`; `ended` gets the exit code. */
export function addUpgrade(program: Command, ended: (code: number) => void): void {
  addQuery(program, 'upgrade', 'restart the service into the installed version, if that is safe, and tell the pause')
    .option('--check', 'only look whether it is safe')
    .option('--force', 'also where the daemon that runs is of the installed version')
    .addHelpText('after', HELP)
    .action(async (options: UpgradeOptions) => {
      const { upgrade } = await import('./restart.js');
      ended(await upgrade(options));
    });
}
