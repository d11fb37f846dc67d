import { execFile } from 'node:child_process';
import { readFileSync, readlinkSync, realpathSync } from 'node:fs';
import { promisify } from 'node:util';
import type { PinnedFile } from '@xenpv/blockdev';
import { findTool } from '../../tools.js';
import { fileName } from './arguments.js';
import type { HelperProcessOptions } from './helper-process.js';

const run = promisify(execFile);

const PROBE_MS = 5000;
const SCRIPT = 'XEN_BLOCKD_CAGE';
/** Namespaces of its own: what is not in them is not there. The program is process 1 of its own, and ends with unshare(1). */
const UNSHARE = ['--mount', '--net', '--pid', '--ipc', '--uts', '--fork', '--kill-child=SIGKILL'];
/** Libraries and block drivers are here, and nothing that an image's reader could change. */
const PROGRAMS = '/usr/';

/** The user and group that a helper runs as. */
export interface HelperUser {
  readonly uid: number;
  readonly gid: number;
}

const ROOT: HelperUser = { uid: 0, gid: 0 };

/** What is to run, and all that it may reach. */
export interface CagedTask {
  readonly program: string;
  readonly args: readonly string[];
  /** Found as `fileName` of their place says. */
  readonly files: readonly PinnedFile[];
  /** Those of them that it may not write. */
  readonly readOnly: ReadonlySet<PinnedFile>;
  /** For its sockets, under its own name. */
  readonly folder: string;
  /** Root if undefined. */
  readonly user?: HelperUser | undefined;
}

/** A command for {@link HelperProcess}. */
export interface HelperCommand {
  readonly program: string;
  readonly args: readonly string[];
  readonly options: HelperProcessOptions;
}

let probing: Promise<string | undefined> | undefined;

/** Why helpers cannot be caged in this process, or undefined: they can. Found out once. */
export function cageProblem(): Promise<string | undefined> {
  probing ??= probe();
  return probing;
}

async function probe(): Promise<string | undefined> {
  if (process.platform !== 'linux') return 'there are no namespaces but on Linux';
  if (process.geteuid?.() !== 0) return 'it takes root to make namespaces';
  for (const tool of ['unshare', 'setpriv', 'mount', 'umount', 'pivot_root']) {
    if (!findTool(tool)) return `${tool} is not there; Debian: apt-get install util-linux mount`;
  }
  const script = 'mount --make-rprivate / && mount -t tmpfs none /sys && exec setpriv --no-new-privs true';
  try {
    await run('unshare', [...UNSHARE, '/bin/sh', '-c', script], { timeout: PROBE_MS });
    return undefined;
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    return stderr?.trim().split('\n')[0] || message.split('\n')[0];
  }
}

/** Whether this program can run where nothing but /usr is. */
export function fitsIntoCage(program: string): boolean {
  return realpathSync(program).startsWith(PROGRAMS);
}

/**
 * The command that runs a program where there is nothing but /usr, which cannot be written, the folder of its sockets and
 * the files of its image, each mounted alone at its number's name: no other file, no process, no network, not even /proc
 * and /dev. A file is mounted by its path and is then compared with the one that was found, which is held meanwhile.
 * qemu-storage-daemon takes no descriptors for images (add-fd is not among its monitor's commands), or it would get those.
 *
 * It has no capabilities where all of that belongs to its user. Elsewhere it may override permissions, which are only
 * those of these few files.
 */
export function cagedCommand({ program, args, files, readOnly, folder, user = ROOT }: CagedTask): HelperCommand {
  const capabilities = user.uid === 0 && files.every(isRootsOwn) ? '-all' : '-all,+dac_override';
  const script = [
    'set -eu',
    'ulimit -c 0',
    'ulimit -n 1024',
    'mount --make-rprivate /',
    'mount -t tmpfs -o mode=755,nosuid,nodev,noexec,size=4m none /sys',
    'cd /sys',
    `mkdir -p usr dev/fd etc old proc ${quoted(`.${folder}`)}`,
    'mount --bind /usr usr',
    'mount -o remount,bind,ro,nosuid usr',
    'for each in bin lib lib32 lib64 libx32 sbin; do',
    '  if [ -L "/$each" ]; then cp -P "/$each" .',
    '  elif [ -d "/$each" ]; then mkdir "$each"; mount --bind "/$each" "$each"; mount -o remount,bind,ro,nosuid "$each"; fi',
    'done',
    'if [ -e /etc/ld.so.cache ]; then cp /etc/ld.so.cache etc; fi',
    `mount --bind ${quoted(folder)} ${quoted(`.${folder}`)}`,
    ...files.flatMap((file, index) => mountFile(file, fileName(index), readOnly.has(file))),
    // umount(8) wants to know what is mounted.
    'mount --bind /proc proc',
    'mount -o remount,bind,ro,nosuid,nodev,noexec /sys',
    'pivot_root . old',
    'cd /',
    'umount -l /old',
    'umount -l /proc',
    `unset ${SCRIPT}`,
    [
      'exec setpriv',
      ...[`--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups', '--no-new-privs'],
      ...[`--bounding-set=${capabilities}`, `--inh-caps=${capabilities}`, `--ambient-caps=${capabilities}`],
      ...['--pdeathsig=SIGKILL', '--'],
      ...[program, ...args].map(quoted),
    ].join(' '),
  ];
  return {
    program: findTool('unshare') ?? 'unshare',
    // Not in the command line, where everybody would take it for the helper itself.
    args: [...UNSHARE, '/bin/sh', '-c', `eval "$${SCRIPT}"`],
    options: { env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', [SCRIPT]: script.join('\n') }, files: [] },
  };
}

/** A name is not enough: whoever can change it may have done so. */
function mountFile(file: PinnedFile, name: string, readOnly: boolean): string[] {
  const at = `.${name}`;
  const found = `${file.stats.dev}:${file.stats.ino}`;
  return [
    `: > ${at}`,
    `mount --bind ${quoted(readlinkSync(file.reference))} ${at}`,
    `if [ "$(stat -c %d:%i ${at})" != ${found} ]; then echo ${quoted(`${file.path}: it was exchanged`)} >&2; exit 1; fi`,
    ...(readOnly ? [`mount -o remount,bind,ro ${at}`] : []),
  ];
}

function isRootsOwn({ stats }: PinnedFile): boolean {
  return stats.uid === 0n && (stats.mode & 0o600n) === 0o600n;
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

/** A user of this system by name or number, with its group; undefined if there is none of that name. */
export function findUser(name: string): HelperUser | undefined {
  let table = '';
  try {
    table = readFileSync('/etc/passwd', 'utf8');
  } catch {
    // A system without users has root only.
  }
  for (const line of table.split('\n')) {
    const [entry, , uid, gid] = line.split(':');
    if (entry === name || uid === name) return { uid: Number(uid), gid: Number(gid) };
  }
  return undefined;
}
