import type { TakeOverConsent } from '@xenpv/xen-block';
import type { Command } from 'commander';
import { formatResumed } from '../../status/device-table.js';
import { addQuery, ask, DISK, type QueryOptions } from '../queries/query.js';

const RESUME_HELP = `
Requests that an error of the storage has stopped were kept, and are done again.

A disk that a daemon before this one served is held when it cannot be taken over safely; list and the log say why.

--without-journal risks the guest's data: which of its requests were carried out is not known. All that its rings show as
unanswered are carried out (again), some of which the guest may have been told to be done; others may never be answered,
so that the guest waits for them until it is restarted. Where that matters, detach the disk or stop the guest instead.

--accept-image has the guest go on with what is in the place of its image now. What it has in its memory of the other
image does not fit to it, and will be written to it.

Examples:
  xen-blockd list --held                            which disks wait for this, and why
  xen-blockd resume web1:xvda                       its storage is well again
  xen-blockd resume web1:xvda --without-journal     the risk that is told above is taken
`;

/** `xen-blockd resume`. */
export function addResume(program: Command): void {
  addQuery(program, 'resume', 'go on with a disk that is stopped by an error of its storage, or held')
    .argument('<disk>', DISK)
    .option('--without-journal', 'take it over though the journal of its requests is lost; see below')
    .option('--accept-image', 'take it over though its image is another one, or shorter; see below')
    .addHelpText('after', RESUME_HELP)
    .action((disk: string, options: QueryOptions & TakeOverConsent) => {
      const args = { disk, 'without-journal': options.withoutJournal, 'accept-image': options.acceptImage };
      return ask(options, { command: 'x-resume', args }, formatResumed);
    });
}
