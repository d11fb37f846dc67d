import { execFile } from 'node:child_process';
import { existsSync, lstatSync, readFileSync, readlinkSync, realpathSync } from 'node:fs';
import { promisify } from 'node:util';
import type { PinnedFile } from '@xenpv/blockdev';
import { findTool } from '../../tools.js';
import { fileName, PROGRAM } from './arguments.js';
import type { HelperProcessOptions } from './helper-process.js';

const run = promisify(execFile);

const PROBE_MS = 5000;
/** Variables that are scripts: in a command line everybody would take them for the helper itself. */
const PREPARE = 'XEN_BLOCKD_PREPARE';
const RUN = 'XEN_BLOCKD_RUN';
const SHELL = '/bin/sh';
/** Namespaces of its own: what is not in them is not there. */
const UNSHARE = ['--mount', '--ipc', '--uts'];
const NO_NETWORK = '--net';
/** What turns names into addresses. */
const RESOLVER = ['/etc/resolv.conf', '/etc/hosts', '/etc/nsswitch.conf', '/etc/gai.conf'];
/**
 * Runs the one process of a namespace of processes, in which it is number 1, and ends as it ends. unshare(1) of util-linux
 * 2.38 has --fork, but forgets by which signal. SIGTERM is for the whole group, and waited for.
 */
const WAIT = [
  'trap : TERM',
  `eval "$${RUN}" &`,
  // What a shell says of a signal is no reason.
  'exec 2>/dev/null',
  'while wait $!; status=$?; kill -0 $! 2>/dev/null; do :; done',
  'if [ $status -gt 128 ]; then trap - TERM; kill -$((status - 128)) $$; fi',
  'exit $status',
].join('\n');
/**
 * What an image may make a helper take: well above what QEMU needs for tables, the stacks of its threads and the largest
 * requests that an NBD client may have in flight.
 */
const DATA_KIBIBYTES = 4 << 20;
/** One that ends is started again, and its guest waits: it is worth more than most, and less than the daemon. */
const OOM_ADJUSTMENT = -500;
/**
 * setpriv of util-linux goes on in silence where it may not empty the bounding set, and root keeps all that is in it. Without
 * a fork: the first process of the namespace has ended by then.
 */
const HAS_NO_RIGHTS = [
  'while read -r name set; do case "$name$set" in CapBnd:*[!0]*)',
  'echo capabilities cannot be given up for good without CAP_SETPCAP >&2; exit 1;;',
  'esac; done </proc/self/status',
].join(' ');
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
  /** Its image is on this machine's network; otherwise there is none for it. */
  readonly network?: boolean | undefined;
  readonly environment?: Readonly<Record<string, string>> | undefined;
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
  for (const tool of ['unshare', 'setpriv', 'mount', 'chroot']) {
    if (!findTool(tool)) return `${tool} is not there; Debian: apt-get install util-linux mount coreutils`;
  }
  const setpriv = 'setpriv --no-new-privs --bounding-set=-all --inh-caps=-all';
  const script = `mount -t tmpfs none /sys && exec chroot / ${setpriv} ${SHELL} -c ${quoted(HAS_NO_RIGHTS)}`;
  try {
    await run('unshare', [...UNSHARE, NO_NETWORK, '--pid', SHELL, '-c', script], { timeout: PROBE_MS });
    return undefined;
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    return stderr?.trim().split('\n')[0] || message.split('\n')[0];
  }
}

/** What keeps the helpers of this process from reaching out, in words, and whether it is all that there is. */
export async function cageInForce(user: string): Promise<{ readonly ok: boolean; readonly detail: string }> {
  const program = findTool(PROGRAM);
  if (program === undefined) return { ok: false, detail: `${PROGRAM} is not there; only raw images are served` };
  const problem = fitsIntoCage(program) ? await cageProblem() : `${program} is not below ${PROGRAMS}`;
  if (problem !== undefined) {
    return {
      ok: false,
      detail: `not caged: ${problem}; helpers get the files that were checked, and could open others`,
    };
  }
  const found = findUser(user);
  const who = found ? `user ${user}` : `root without capabilities; for a user of its own: useradd --system ${user}`;
  return { ok: true, detail: `caged: own mounts, network, processes, chroot, no_new_privs, no core dumps; ${who}` };
}

/** Whether this program can run where nothing but /usr is. */
export function fitsIntoCage(program: string): boolean {
  return realpathSync(program).startsWith(PROGRAMS);
}

/**
 * The command that runs a program where there is nothing but /usr, which cannot be written, the folder of its sockets,
 * /dev/null and the files of its image, each mounted alone at its number's name: no other file, no process, no network,
 * not even /proc. The kernel makes no user namespaces for those who are in a chroot, so that it gets no root of its own. A
 * file is mounted by its path and is then compared with the one that was found, which is held meanwhile.
 * An image on the network has this machine's network, and the files that turn names into addresses.
 * qemu-storage-daemon takes no descriptors for images (add-fd is not among its monitor's commands), or it would get those.
 *
 * It has no capabilities where all of that belongs to its user. Elsewhere it may override permissions, which are only
 * those of these few files.
 */
export function cagedCommand(task: CagedTask): HelperCommand {
  const { program, args, files, readOnly, folder, user = ROOT, network = false, environment } = task;
  const [links, directories] = programFolders();
  const capabilities = user.uid === 0 && files.every(isRootsOwn) ? '-all' : '-all,+dac_override';
  const root = (name: string) => quoted(`.${name}`);
  const script = [
    'set -eu',
    'ulimit -c 0',
    'ulimit -n 1024',
    `ulimit -d ${DATA_KIBIBYTES}`,
    // The unit's is for the daemon: a helper that eats memory is to end before others.
    'read -r adjustment < /proc/self/oom_score_adj',
    `[ "$adjustment" -ge ${OOM_ADJUSTMENT} ] || echo ${OOM_ADJUSTMENT} > /proc/self/oom_score_adj`,
    // What is at /sys is nowhere else, and no image is there.
    'mount -t tmpfs -o mode=755,nosuid,nodev,noexec,size=1m none /sys',
    'cd /sys',
    `mkdir -p dev/fd ${[folder, ...directories].map(root).join(' ')}`,
    ...(links.length > 0 ? [`cp -P ${links.join(' ')} .`] : []),
    ...directories.map((name) => `mount --bind -o ro,nosuid ${name} ${root(name)}`),
    `mount --bind ${quoted(folder)} ${root(folder)}`,
    // QEMU finds out by it which locks there are, and locks nothing if it is not there.
    ': > dev/null',
    'mount --bind /dev/null dev/null',
    ...files.flatMap((file, index) => mountFile(file, `.${fileName(index)}`, readOnly.has(file))),
    ...(network ? resolver() : []),
    'mount -o remount,bind,ro,nosuid,nodev,noexec /sys',
    `unset ${PREPARE}`,
    `exec unshare --pid ${SHELL} -c ${quoted(WAIT)}`,
  ];
  const caged = [
    ...['chroot', '.', 'setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups'],
    ...[`--bounding-set=${capabilities}`, `--inh-caps=${capabilities}`, `--ambient-caps=${capabilities}`],
    ...['--no-new-privs', '--pdeathsig=SIGKILL', '--', program, ...args],
  ];
  return {
    program: findTool('unshare') ?? 'unshare',
    args: [...UNSHARE, ...(network ? [] : [NO_NETWORK]), SHELL, '-c', `eval "$${PREPARE}"`],
    options: {
      env: {
        ...environment,
        PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
        [PREPARE]: script.join('\n'),
        [RUN]: `unset ${RUN}; exec ${caged.map(quoted).join(' ')}`,
      },
      files: [],
    },
  };
}

/** What makes programs run: /usr, and names in the root that are links to folders in it, or folders still. */
function programFolders(): [links: string[], directories: string[]] {
  const found = ['/bin', '/lib', '/lib32', '/lib64', '/libx32', '/sbin', '/usr'].flatMap((path) => {
    const stats = lstatSync(path, { throwIfNoEntry: false });
    return stats ? [{ path, link: stats.isSymbolicLink() }] : [];
  });
  const pathsOf = (link: boolean) => found.filter((each) => each.link === link).map(({ path }) => path);
  return [pathsOf(true), pathsOf(false)];
}

/** A name is not enough: whoever can change it may have done so. */
function mountFile(file: PinnedFile, at: string, readOnly: boolean): string[] {
  const found = `${file.stats.dev}:${file.stats.ino}`;
  return [
    `: > ${at}`,
    `mount --bind ${readOnly ? '-o ro ' : ''}${quoted(readlinkSync(file.reference))} ${at}`,
    `if [ "$(stat -c %d:%i ${at})" != ${found} ]; then echo ${quoted(`${file.path}: it was exchanged`)} >&2; exit 1; fi`,
  ];
}

function resolver(): string[] {
  const found = RESOLVER.filter((path) => existsSync(path));
  const mounted = found.flatMap((path) => [
    `: > .${path}`,
    `mount --bind -o ro,nosuid,nodev,noexec ${quoted(realpathSync(path))} .${path}`,
  ]);
  return ['mkdir -p etc', ...mounted];
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
