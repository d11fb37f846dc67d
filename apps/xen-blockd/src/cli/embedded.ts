import { type Command, Option } from 'commander';
import { RANGES, type Range } from '../daemon/config.js';
import type { GuestOptions } from '../embedded/guest.js';
import type { HostOptions } from '../embedded/host.js';
import { withEmulator } from '../provider/emulator.js';
import { integer } from './option-parsers.js';

const DEPTH: Range = [1, 256];
const QUEUES: Range = [1, 16];
const SECONDS: Range = [1, 1_000_000];
const MEMORY: Range = [1, 65_536];

/** `xen-blockd host` and `xen-blockd guest`: a Xen host in a folder, and guests in it. `ended` gets the exit code. */
export function addEmbedded(program: Command, ended: (code: number) => void): void {
  program
    .command('host')
    .description('an emulated Xen host in a folder, for run --emulator and guest: needs no hypervisor, no root')
    .requiredOption('--dir <folder>', 'where other processes join it; best on a tmpfs, such as below /run or /dev/shm')
    .option('--memory-mib <n>', 'memory of domain 0', integer(MEMORY))
    .addHelpText('after', HOST_EXAMPLES)
    .action(async (options: HostOptions) => {
      const { runHost } = await withEmulator(() => import('../embedded/host.js'));
      ended(await runHost(options));
    });
  program
    .command('guest')
    .description('a guest of such a host: gets IMAGE as a disk from the daemon, and reads, lends or tries it')
    .argument('<image>', 'disk image, as the daemon finds it')
    .requiredOption('--dir <folder>', 'the folder of the host')
    .option('--name <name>', "the guest's name", 'guest')
    .option('--vdev <name>', "the disk's name in the guest", 'xvda')
    .addOption(
      new Option('--backendtype <type>', 'as in the disk line of xl').choices(['qdisk', 'tap', 'phy']).default('qdisk'),
    )
    .addOption(
      new Option('--abi <name>', 'structure layout of the guest')
        .choices(['x86_32', 'x86_64', 'arm'])
        .default('x86_64'),
    )
    .option('--ring-page-order <n>', 'the ring has 2^n pages', integer(RANGES['max-ring-page-order']), 0)
    .option('--queues <n>', 'rings, as many as the daemon allows', integer(QUEUES), 1)
    .option('--writable', 'the guest may write to IMAGE')
    .option('--load', 'overwrite IMAGE at random, and check each read and at the end all that was written')
    .option('--seconds <n>', 'how long the load lasts', integer(SECONDS), 10)
    .option('--depth <n>', 'operations of the load in flight', integer(DEPTH), 8)
    .option('--nbd <socket>', 'lend the disk over NBD on this Unix socket until a signal comes')
    .option('--json', 'print JSON instead of text')
    .addHelpText('after', GUEST_EXAMPLES)
    .action(async (image: string, options: Omit<GuestOptions, 'image'>) => {
      const { runGuest } = await withEmulator(() => import('../embedded/guest.js'));
      ended(await runGuest({ image, ...options }));
    });
}

const HOST_EXAMPLES = `
The host, the daemon and each guest have a terminal of their own. Kill the daemon with -9 and start it again: the guest sees a pause.

Examples:
  xen-blockd host --dir /dev/shm/xen
  xen-blockd run --emulator /dev/shm/xen --control-socket /tmp/blockd.sock
  xen-blockd guest disk.img --dir /dev/shm/xen --writable --load --seconds 60`;

const GUEST_EXAMPLES = `
With --writable --load it overwrites the image at random, checks each sector that it wrote, and tells the longest pause.

Examples:
  xen-blockd guest disk.img --dir /dev/shm/xen                    read it all, print its sha256
  xen-blockd guest disk.img --dir /dev/shm/xen --writable --load  exit code 1 if anything was lost or refused
  xen-blockd guest disk.img --dir /dev/shm/xen --nbd /tmp/disk.sock
      then: qemu-img info nbd+unix:///?socket=/tmp/disk.sock`;
