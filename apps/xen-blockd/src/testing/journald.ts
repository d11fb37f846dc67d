import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { type Need, working } from '@xenpv/test-support';
import { runTool } from '../tools.js';

const PROGRAM = ['/lib/systemd/systemd-journald', '/usr/lib/systemd/systemd-journald'].find(existsSync) ?? '';
const NAME = 'xen-blockd-test';
const IN_FOLDERS_OF_ITS_OWN = `
mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/log &&
mkdir -p /run/systemd/journal.${NAME} /run/systemd/journal &&
mount --bind /run/systemd/journal.${NAME} /run/systemd/journal && exec "$0" ${NAME}
`;

/** Connects standard error to the journal and says so, as systemd does before it runs a unit's program. */
const AS_A_UNIT = `
import os, socket, sys
stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
stream.connect('/run/systemd/journal/stdout')
stream.sendall(b'xen-blockd\\n\\n6\\n1\\n0\\n0\\n0\\n')
stat = os.fstat(stream.fileno())
os.environ['JOURNAL_STREAM'] = f'{stat.st_dev}:{stat.st_ino}'
os.dup2(stream.fileno(), 2)
os.execvp(sys.argv[1], sys.argv[1:])
`;

/** Root, systemd-journald, and mounts of one's own. */
export const journaldNeed: Need = working('systemd-journald as root', () => {
  if (PROGRAM === '' || process.getuid?.() !== 0) throw new Error('not here');
  const { status } = spawnSync('unshare', ['--mount', 'sh', '-c', 'mount -t tmpfs tmpfs /var/log']);
  if (status !== 0) throw new Error('no mounts');
});

/** systemd's own journald, with folders that only it and the programs that are run in them see. */
export class Journald implements AsyncDisposable {
  readonly #child: ChildProcess;

  private constructor() {
    this.#child = spawn('unshare', ['--mount', 'sh', '-c', IN_FOLDERS_OF_ITS_OWN, PROGRAM], { stdio: 'ignore' });
  }

  static async start(): Promise<Journald> {
    const journald = new Journald();
    const { pid } = journald.#child;
    while (!existsSync(`/proc/${pid}/root/run/systemd/journal.${NAME}/stdout`)) {
      if (journald.#child.exitCode !== null) throw new Error(`systemd-journald ended: ${journald.#child.exitCode}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return journald;
  }

  /** The program and arguments that run another as a unit whose journal this is. */
  get under(): readonly string[] {
    return [...this.#inside, 'python3', '-c', AS_A_UNIT];
  }

  /** What `journalctl` finds by these words. */
  async find(...words: string[]): Promise<Record<string, string>[]> {
    const [program, ...args] = [...this.#inside, 'journalctl', `--namespace=${NAME}`, '--output=json', ...words];
    const { stdout } = await runTool(program, args);
    const lines = stdout.split('\n').filter((line) => line.startsWith('{'));
    return lines.map((line) => JSON.parse(line) as Record<string, string>);
  }

  get #inside(): string[] {
    return ['nsenter', '--target', `${this.#child.pid}`, '--mount', '--'];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const closed = once(this.#child, 'close');
    this.#child.kill('SIGKILL');
    await closed;
  }
}
