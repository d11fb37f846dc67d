import { resolve } from 'node:path';
import type { Command } from 'commander';
import { formatDevices } from '../../status/device-table.js';
import { addQuery, ask, DISK, type QueryOptions } from '../queries/query.js';

const HELP = `
The file of the image gets the snapshot's name, and is not written to again; the guest goes on with a new layer under the
image's own name, so that no configuration has to change. Its requests wait for some tenths of a second meanwhile. The disk is
made of its snapshots from then on: never write to one, move it or remove it. xen-blockd flatten makes it need them no more.
Images of format qcow2 only; the snapshot is on the same file system, and where images may name others.

Examples:
  xen-blockd snapshot web1:xvda /images/web1-monday.qcow2
  cp /images/web1-monday.qcow2 /backup/              it does not change any more
  xen-blockd flatten web1:xvda && rm /images/web1-monday.qcow2
`;

/** An image's new layer has to be made, and what the guest wrote to be flushed. */
const LONG_MS = 120_000;

/** `xen-blockd snapshot`. */
export function addSnapshot(program: Command): void {
  addQuery(program, 'snapshot', 'keep what a qcow2 image is now under another name')
    .argument('<disk>', DISK)
    .argument('<file>', 'the name, which is not there yet')
    .addHelpText('after', HELP)
    .action((disk: string, file: string, options: QueryOptions) => {
      const request = { command: 'x-snapshot', args: { disk, filename: resolve(file) }, answerMs: LONG_MS };
      return ask(options, request, formatDevices);
    });
}
