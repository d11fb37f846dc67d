import { resolve } from 'node:path';
import { IMAGE_FORMATS } from '@xenpv/xen-block';
import { type Command, Option } from 'commander';
import { BlockdError } from '../../errors.js';
import { addQuery, answerOf, DISK, deviceOf, print, type QueryOptions } from '../queries/query.js';
import { JobWatch } from './jobs.js';
import { parseSize } from './size.js';

const HELP = `
The backup is what the disk was when this began, as after a power cut, while the guest goes on; have a file system frozen before
where that is not enough. FILE has its name only when it is whole. Ctrl-C, or whatever else ends the job, leaves none. An
incremental backup has only what was written since the last one with the same bitmap: a disk is put together again by qemu-img
rebase -u. Images of format qcow2 and the others of storage helpers; raw ones have none.

Examples:
  xen-blockd backup web1:xvda /backup/web1-sunday.qcow2 --bitmap weekly       all, and from now on the bitmap tells of changes
  xen-blockd backup web1:xvda /backup/web1-monday.qcow2 --incremental weekly
  qemu-img rebase -u -F qcow2 -b web1-sunday.qcow2 /backup/web1-monday.qcow2  what it is a change of
  xen-blockd backup web1:xvda 'nbd://backup1/web1' --speed 50M                to a server, whose export has the disk's size
`;

/** The target has to be made, and its helper started. */
const LONG_MS = 120_000;

interface BackupOptions extends QueryOptions {
  readonly format?: string;
  readonly existing?: boolean;
  readonly bitmap?: string;
  readonly incremental?: string;
  readonly speed?: string;
  readonly wait: boolean;
}

interface Block {
  readonly device: string;
  readonly inserted?: { readonly 'dirty-bitmaps'?: readonly { readonly name?: string }[] };
}

/** `xen-blockd backup`. */
export function addBackup(program: Command): void {
  const formats = ['raw', ...IMAGE_FORMATS];
  addQuery(program, 'backup', 'copy what a qcow2 disk is now, while its guest uses it')
    .argument('<disk>', DISK)
    .argument('<target>', 'a file that is not there yet, or an NBD server as nbd://HOST:PORT/NAME')
    .addOption(new Option('--format <format>', 'of the file; qcow2 by default').choices(formats))
    .option('--existing', 'write to a file or device that is there')
    .addOption(
      new Option('--bitmap <name>', 'a bitmap, made if it is not there, forgets what this has').conflicts(
        'incremental',
      ),
    )
    .option('--incremental <name>', 'only what was written since the last backup with this bitmap')
    .option('--speed <bytes>', 'in a second, as 50M; no limit by default')
    .option('--no-wait', 'do not wait for the end; block-job-cancel by QMP cancels')
    .addHelpText('after', HELP)
    .action(backup);
}

async function backup(disk: string, file: string, options: BackupOptions): Promise<void> {
  const isServer = /^nbd(\+unix)?:/.test(file);
  const target = isServer ? file : resolve(file);
  const speed = options.speed === undefined ? 0 : parseSize(options.speed).bytes;
  const device = await deviceOf(options, disk);
  const { bitmap, incremental, wait } = options;
  if (bitmap !== undefined && !wait) {
    const reason = 'only who sees the backup end knows whether the bitmap is of use';
    throw new BlockdError('ERR_USAGE', 'backup', `--bitmap does not go with --no-wait: ${reason}`);
  }
  const isNew = bitmap !== undefined && !(await hasBitmap(options, device, bitmap));
  const args = {
    ...{ device, target, speed, sync: incremental === undefined ? 'full' : 'bitmap' },
    ...{ bitmap: bitmap ?? incremental, 'bitmap-mode': (bitmap ?? incremental) && 'on-success' },
    ...{ format: options.format ?? (isServer ? 'raw' : 'qcow2') },
    mode: isServer || options.existing ? 'existing' : 'absolute-paths',
  };
  await using watch = await JobWatch.open(options, device);
  const ofBitmap = { node: device, name: bitmap };
  if (isNew) await answerOf(options, { command: 'block-dirty-bitmap-add', args: { ...ofBitmap, persistent: true } });
  try {
    const begin = () => answerOf(options, { command: 'drive-backup', args, answerMs: LONG_MS });
    if (wait) await watched(watch, options, { device, target, begin });
    else await begin();
  } catch (error) {
    // A bitmap whose backup is not there would tell the next one too little.
    if (isNew) await answerOf(options, { command: 'block-dirty-bitmap-remove', args: ofBitmap }).catch(() => {});
    throw error;
  }
  const done = wait ? 'is backed up to' : 'is being backed up to';
  print(options, { device, target, finished: wait }, () => `${device} ${done} ${target}\n`);
}

/** Errors: ERR_IMAGE, it has failed, or Ctrl-C has ended it. */
async function watched(
  watch: JobWatch,
  options: BackupOptions,
  { device, target, begin }: { device: string; target: string; begin: () => Promise<unknown> },
): Promise<void> {
  let isBegun = false;
  let isCancelled = false;
  const cancel = () => {
    isCancelled = true;
    // One that has just ended has nothing to cancel.
    const request = { command: 'block-job-cancel', args: { device, force: true } };
    if (isBegun) answerOf(options, request).catch(() => {});
  };
  process.on('SIGINT', cancel).on('SIGTERM', cancel);
  try {
    await begin();
    isBegun = true;
    if (isCancelled) cancel();
    const reason = await watch.end('backup');
    if (reason !== undefined) throw new BlockdError('ERR_IMAGE', 'backup', `${target} is no backup: ${reason}`);
  } finally {
    process.off('SIGINT', cancel).off('SIGTERM', cancel);
  }
}

async function hasBitmap(options: QueryOptions, device: string, bitmap: string): Promise<boolean> {
  const blocks = await answerOf<readonly Block[]>(options, { command: 'query-block' });
  const { inserted } = blocks.find((block) => block.device === device) ?? {};
  return inserted?.['dirty-bitmaps']?.some(({ name }) => name === bitmap) ?? false;
}
