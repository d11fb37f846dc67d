#!/usr/bin/env node
import { subscribe } from 'node:diagnostics_channel';
import { constants } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual, parseArgs } from 'node:util';
import { errorMessage, isXenstoreTrouble, printable } from '@xenpv/xenbus';
import { XenstoreClient } from '@xenpv/xenstore';
import { concernsDisks, type Disk, listDisks } from './disks.js';

const HELP = `usage: disk-lister [--json] [--watch] [--emulator DIR]

Lists the disks of all guests of this Xen host. Run it in dom0, as root.

  --json          JSON: an array; with --watch a line for each change
  --watch         go on, and tell each disk that is added (+), changed (~) or removed (-)
  --emulator DIR  the embedded host that \`xen-blockd host --dir DIR\` keeps
  --help          this

Exit status: 0 done, 1 no xenstore or it failed, 2 wrong arguments, 128 + N ended by signal N.`;
const HEADER = ['GUEST', 'DOMID', 'VDEV', 'BACKEND', 'STATE', 'SIZE', 'MODE', 'TARGET'];
const WIDTHS = [16, 5, 6, 8, 12, 10, 4, 0];

function sizeText(bytes: number | null): string {
  if (bytes === null) return '-';
  const unit = Math.min(4, Math.max(0, Math.floor(Math.log2(bytes / 1024) / 10)));
  return `${(bytes / 1024 ** (unit + 1)).toFixed(1)} ${['KiB', 'MiB', 'GiB', 'TiB', 'PiB'][unit]}`;
}

/** One line of the table. What others wrote into xenstore comes to the terminal as `printable` text. */
const line = (...cells: readonly string[]) =>
  cells.reduce((text, cell, at) => `${text}${(printable(cell) || '-').padEnd(WIDTHS[at] ?? 0)} `, '').trimEnd();

function row({ guest, domid, vdev, backendType, backendDomid, state, size, mode, target }: Disk): string {
  const backend = backendDomid === 0 ? backendType : `${backendType}@${backendDomid}`;
  return line(guest ?? '', `${domid}`, vdev, backend, state, sizeText(size), mode, target);
}

type Change = 'added' | 'changed' | 'removed';
const SIGNS = { added: '+', changed: '~', removed: '-' };

function* changes(old: ReadonlyMap<string, Disk>, now: ReadonlyMap<string, Disk>): Generator<[Change, Disk]> {
  for (const [path, disk] of old) if (!now.has(path)) yield ['removed', disk];
  for (const [path, disk] of now) {
    if (!isDeepStrictEqual(old.get(path), disk)) yield [old.has(path) ? 'changed' : 'added', disk];
  }
}

const warn = (error: unknown) => console.error(`disk-lister: ${printable(errorMessage(error))}`);

/** Tells all that is there, then each change, until the signal. A lost connection is waited out. */
async function follow(store: XenstoreClient, signal: AbortSignal, tell: (change: Change, disk: Disk) => void) {
  let known: ReadonlyMap<string, Disk> = new Map();
  const watch = await store.watch('/local/domain', { signal });
  for await (const { path } of watch) {
    if (!concernsDisks(path)) continue;
    watch.skip(); // Everything is read next, and what changes from now on comes as an event.
    try {
      const now = await listDisks(store, signal);
      for (const [change, disk] of changes(known, now)) tell(change, disk);
      known = now;
    } catch (error) {
      if (!isXenstoreTrouble(error)) throw error;
      warn(error); // With the next connection the watch fires.
    }
  }
}

async function main(signal: AbortSignal): Promise<void> {
  const flag = { type: 'boolean', default: false } as const;
  const { values } = parseArgs({ options: { json: flag, watch: flag, help: flag, emulator: { type: 'string' } } });
  const { json, watch, emulator, help } = values;
  if (help) return console.log(HELP);
  const path = emulator === undefined ? undefined : join(emulator, 'xenstored.sock');
  await using store = await XenstoreClient.connect({ path, reconnect: watch, signal });
  if (!json) console.log(`${watch ? '  ' : ''}${line(...HEADER)}`);
  if (watch) {
    await follow(store, signal, (change, disk) =>
      console.log(json ? JSON.stringify({ change, ...disk }) : `${SIGNS[change]} ${row(disk)}`),
    );
    return;
  }
  const disks = [...(await listDisks(store, signal)).values()];
  if (json) console.log(JSON.stringify(disks, undefined, 2));
  else for (const disk of disks) console.log(row(disk));
}

subscribe('xenstore:connection:lost', () => warn('the connection to xenstored is lost; waiting for the next one'));
const ended = new AbortController();
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(name, () => {
    process.exitCode = 128 + constants.signals[name];
    ended.abort();
  });
}
process.stdout.on('error', ({ code }: NodeJS.ErrnoException) => process.exit(code === 'EPIPE' ? 0 : 1));

try {
  await main(ended.signal);
} catch (error) {
  if (!ended.signal.aborted) {
    warn(error);
    const { code } = error as { code?: unknown };
    process.exitCode = String(code).startsWith('ERR_PARSE_ARGS') ? 2 : 1;
    if (process.exitCode === 2) console.error('Try disk-lister --help.');
  }
}
