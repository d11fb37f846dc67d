import type { TakeOverConsent } from '@xenpv/xen-block';
import type { Command } from 'commander';
import { DEFAULTS } from '../daemon/config.js';
import { BlockdError } from '../errors.js';
import { askDaemon, type ControlRequest } from '../status/control-socket.js';
import type { DeviceStatus } from '../status/device-status.js';
import { formatAllStatistics, formatDevices, formatResumed } from '../status/device-table.js';
import { formatJson } from '../status/format.js';

interface Query {
  readonly name: string;
  readonly description: string;
  readonly request: ControlRequest;
  readonly format: (devices: readonly DeviceStatus[]) => string;
}

const QUERIES: readonly Query[] = [
  {
    name: 'list',
    description: 'list the disks that the daemon serves',
    request: { command: 'list' },
    format: formatDevices,
  },
  {
    name: 'stats',
    description: "print the disks' counters",
    request: { command: 'list' },
    format: formatAllStatistics,
  },
];

interface QueryOptions {
  readonly socket: string;
  readonly json?: boolean;
}

/** `xen-blockd list`, `stats`, `refresh` and `resume`, which ask a running daemon. */
export function addQueries(program: Command): void {
  for (const { name, description, request, format } of QUERIES) {
    addQuery(program, name, description).action(async (options: QueryOptions) => {
      await ask(options, request, format);
    });
  }
  addRefresh(program);
  addResume(program);
}

const RESUME_HELP = `
A disk that a daemon before this one served is held when it cannot be taken over safely; list and the log say why.

--without-journal risks the guest's data: which of its requests were carried out is not known. All that its rings show as
unanswered are carried out (again), some of which the guest may have been told to be done; others may never be answered,
so that the guest waits for them until it is restarted. Where that matters, detach the disk or stop the guest instead.

--accept-image has the guest go on with what is in the place of its image now. What it has in its memory of the other
image does not fit to it, and will be written to it.
`;

function addResume(program: Command): void {
  addQuery(program, 'resume', 'go on with a disk that is stopped by an error of its storage, or held')
    .argument('<disk>', 'its name or image, as list shows them, or its backend path')
    .option('--without-journal', 'take it over though the journal of its requests is lost; see below')
    .option('--accept-image', 'take it over though its image is another one, or shorter; see below')
    .addHelpText('after', RESUME_HELP)
    .action((disk: string, options: QueryOptions & TakeOverConsent) => {
      const { withoutJournal, acceptImage } = options;
      return ask(options, { command: 'resume', disk, withoutJournal, acceptImage }, formatResumed);
    });
}

function addRefresh(program: Command): void {
  addQuery(program, 'refresh', 'look at the sizes of images again, and tell the guests')
    .argument('[disk]', 'only this one: its name or image, as list shows them, or its backend path')
    .option('--allow-shrink', 'the image may have become smaller: the guest loses its end')
    .action(async (disk: string | undefined, options: QueryOptions & { allowShrink?: boolean }) => {
      const { allowShrink } = options;
      if (allowShrink && disk === undefined) {
        throw new BlockdError('ERR_USAGE', 'refresh', '--allow-shrink needs the name of the disk; see xen-blockd list');
      }
      await ask(options, { command: 'refresh', disk, allowShrink }, formatDevices);
    });
}

function addQuery(program: Command, name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .option('--socket <path>', "the daemon's control socket", DEFAULTS['control-socket'])
    .option('--json', 'print JSON');
}

async function ask({ socket, json }: QueryOptions, request: ControlRequest, format: Query['format']): Promise<void> {
  const devices = await askDaemon(socket, request);
  process.stdout.write(json ? formatJson(devices) : format(devices));
}
