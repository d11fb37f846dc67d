import { type Command, Option } from 'commander';
import { RANGES, type Range } from '../daemon/config.js';
import { checkDemoOptions, type DemoArguments } from '../demo/options.js';
import { withEmulator } from '../provider/emulator.js';
import { integer } from './option-parsers.js';

const GUESTS: Range = [1, 64];

/** `xen-blockd demo`; `ended` gets the exit code. */
export function addDemo(program: Command, ended: (code: number) => void): void {
  program
    .command('demo')
    .description('serve an image to a guest on an embedded Xen host: needs no hypervisor, no root')
    .argument('[image]', 'disk image; without it an ext4 file system made from the documentation')
    .addOption(new Option('--read-only', 'guests may only read (default for an IMAGE given)').conflicts('writable'))
    .option('--writable', 'guests may write to IMAGE')
    .option('--vdev <name>', "the disk's name in the guest", 'xvda')
    .addOption(
      new Option('--abi <name>', 'structure layout of the guest')
        .choices(['x86_32', 'x86_64', 'arm'])
        .default('x86_64'),
    )
    .option('--ring-page-order <n>', 'the ring has 2^n pages, n from 0 to 4', integer(RANGES['max-ring-page-order']), 0)
    .option('--guests <n>', 'number of guests, each on a thread of its own', integer(GUESTS), 1)
    .option('--json', 'print one JSON object instead of text')
    .option('--nbd <socket>', "export the guest's disk over NBD on this Unix socket until a signal comes")
    .option('--xenstore <socket>', 'let the embedded xenstored listen on this Unix socket too')
    .addHelpText('after', DEMO_EXAMPLES)
    .action(async (image: string | undefined, options: Omit<DemoArguments, 'image'>) => {
      const { runDemo } = await withEmulator(() => import('../demo/demo.js'));
      ended(await runDemo(checkDemoOptions({ image, ...options })));
    });
}

const DEMO_EXAMPLES = `
Examples:
  xen-blockd demo debian.img                     read the whole disk in a guest, print its sha256
  xen-blockd demo debian.img --guests 8 --abi x86_32 --ring-page-order 4
  xen-blockd demo disk.img --writable --nbd /tmp/disk.sock
      then: fio --name=t --ioengine=nbd --uri=nbd+unix:///?socket=/tmp/disk.sock --rw=randrw --size=16m
  xen-blockd demo --nbd /tmp/disk.sock --xenstore /tmp/xenstored.sock
      then: XENSTORED_PATH=/tmp/xenstored.sock xenstore-ls -f`;
