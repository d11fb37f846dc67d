import { readFileSync } from 'node:fs';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { checkDemoOptions, type DemoArguments } from './demo-options.js';
import { BlockdError, ExitCode } from './errors.js';

/** Runs `xen-blockd` with these arguments; resolves with the exit code. An error is one line on standard error. */
export async function runCommandLine(args: readonly string[]): Promise<number> {
  const outcome = { code: ExitCode.ok as number };
  const program = makeProgram((code) => {
    outcome.code = code;
  });
  try {
    await program.parseAsync(args, { from: 'user' });
    return outcome.code;
  } catch (error) {
    return reportError(error);
  }
}

function reportError(error: unknown): number {
  if (error instanceof CommanderError) {
    // Help and version end this way too; commander has printed the message.
    return error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
  }
  process.stderr.write(`xen-blockd: ${error instanceof Error ? error.message : String(error)}\n`);
  if (error instanceof BlockdError) return error.exitCode;
  if (process.env.XEN_BLOCKD_DEBUG) console.error(error);
  return ExitCode.failure;
}

function makeProgram(ended: (code: number) => void): Command {
  const program = new Command('xen-blockd')
    .description('Serves disk images to Xen guests over the paravirtual block protocol.')
    .version(readVersion())
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'xen-blockd: ')) })
    .showHelpAfterError('(xen-blockd --help says more)');
  addDemo(program, ended);
  return program;
}

function addDemo(program: Command, ended: (code: number) => void): void {
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
    .option('--ring-page-order <n>', 'the ring has 2^n pages, n from 0 to 4', integer(0, 4), 0)
    .option('--guests <n>', 'number of guests, each on a thread of its own', integer(1, 64), 1)
    .option('--json', 'print one JSON object instead of text')
    .option('--nbd <socket>', "export the guest's disk over NBD on this Unix socket until a signal comes")
    .option('--xenstore <socket>', 'let the embedded xenstored listen on this Unix socket too')
    .addHelpText('after', DEMO_EXAMPLES)
    .action(async (image: string | undefined, options: Omit<DemoArguments, 'image'>) => {
      // The daemon itself needs no emulator.
      const { runDemo } = await import('./demo.js');
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

/** A parser of whole numbers from `minimum` to `maximum`, for commander. */
function integer(minimum: number, maximum: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^[0-9]+$/.test(text) && value >= minimum && value <= maximum) return value;
    throw new InvalidArgumentError(`Expected a whole number from ${minimum} to ${maximum}.`);
  };
}

function readVersion(): string {
  const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string };
  return manifest.version;
}
