import { type AbiName, parseVdev } from '@xenpv/blkif';
import { BlockdError } from '../errors.js';

/** What commander makes of the command line. */
export interface DemoArguments {
  readonly image: string | undefined;
  readonly readOnly?: boolean;
  readonly writable?: boolean;
  readonly vdev: string;
  readonly abi: AbiName;
  readonly ringPageOrder: number;
  readonly guests: number;
  readonly json?: boolean;
  readonly nbd?: string;
  readonly xenstore?: string;
}

/** What the demo does, checked. */
export interface DemoOptions {
  /** The path of the image; one is made if undefined. */
  readonly image: string | undefined;
  readonly readOnly: boolean;
  /** As given: `xvda`. A plain `dN` is spelled as xl wants it: `dNp0`. */
  readonly vdev: string;
  /** Its number in xenstore: 51712. */
  readonly devid: number;
  readonly abi: AbiName;
  readonly ringPageOrder: number;
  readonly guests: number;
  readonly json: boolean;
  readonly nbd: string | undefined;
  readonly xenstore: string | undefined;
}

/** Errors: ERR_USAGE. */
export function checkDemoOptions(args: DemoArguments): DemoOptions {
  const readOnly = args.readOnly ?? (args.image !== undefined && !args.writable);
  if (args.nbd !== undefined && args.guests > 1) {
    throw usage(`--nbd exports the disk of one guest; leave out --guests ${args.guests}`);
  }
  if (!readOnly && args.guests > 1 && args.writable) {
    throw usage(
      `--writable with --guests ${args.guests}: guests that share a disk must not write to it; use --read-only`,
    );
  }
  if (args.nbd !== undefined && args.nbd === args.xenstore) {
    throw usage(`--nbd and --xenstore name the same socket ${args.nbd}; use two`);
  }
  return {
    image: args.image,
    readOnly: readOnly || args.guests > 1,
    vdev: /^d\d+$/.test(args.vdev) ? `${args.vdev}p0` : args.vdev,
    devid: parseVdevOption(args.vdev),
    abi: args.abi,
    ringPageOrder: args.ringPageOrder,
    guests: args.guests,
    json: args.json ?? false,
    nbd: args.nbd,
    xenstore: args.xenstore,
  };
}

function parseVdevOption(text: string): number {
  try {
    return parseVdev(text).number;
  } catch (error) {
    throw usage(`--vdev ${text}: ${(error as Error).message}`, error);
  }
}

function usage(message: string, cause?: unknown): BlockdError {
  return new BlockdError('ERR_USAGE', 'demo', message, { cause });
}
