import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { nativeProvider, XEN_PAGE_SIZE, type XenstoreTransport } from '@xenpv/xen-sys';
import { XenstoreClient } from '../../client/client.js';
import { packageRoot } from '../../package-root.js';
import type { ServerKind } from '../conformance/scene.js';
import { PageFileRing } from './page-file-ring.js';

const run = promisify(execFile);

/** The C daemon of Xen, or the OCaml one. */
export type GenuineKind = 'xenstored' | 'oxenstored';

const SHIM_SOURCE = fileURLToPath(new URL('src/testing/genuine-server/no-hypervisor.c', packageRoot()));
const START_TIMEOUT_MS = 10_000;

/**
 * Xen's own xenstored on a machine without Xen: the distribution's binary over a stand-in for the hypervisor, in a
 * directory of its own. Guests can be made up too. For tests and benchmarks.
 */
export class GenuineServer implements AsyncDisposable {
  /** The daemon and, where it matters, its release. */
  readonly kind: ServerKind;
  /** Its run directory: XENSTORED_RUNDIR. */
  readonly directory: string;
  /** Its socket: XENSTORED_PATH for libxenstore and the stock tools. */
  readonly socketPath: string;
  readonly #process: ChildProcess;

  private constructor(kind: ServerKind, directory: string, process: ChildProcess) {
    this.kind = kind;
    this.directory = directory;
    this.socketPath = join(directory, 'socket');
    this.#process = process;
  }

  /** What must be installed before {@link start} works, or undefined. */
  static missing(kind: GenuineKind): string | undefined {
    if (daemonBinary(kind) === undefined)
      return `needs ${kind} (Debian: apt-get install xen-utils-4.17, or the release's own)`;
    if (!existsSync('/usr/include/xenctrl.h')) return 'needs xenctrl.h (Debian: apt-get install libxen-dev)';
    const compiler = process.env.PATH?.split(':').some((folder) => existsSync(join(folder, 'cc')));
    return compiler ? undefined : 'needs a C compiler (Debian: apt-get install gcc)';
  }

  /** Starts a daemon with an empty store. `options` are further ones for its command line. */
  static async start(kind: GenuineKind, options: readonly string[] = []): Promise<GenuineServer> {
    const missing = GenuineServer.missing(kind);
    if (missing !== undefined) throw new Error(missing);
    const binary = daemonBinary(kind)!;
    const directory = await mkdtemp(join(tmpdir(), `${kind}-`));
    const args = kind === 'xenstored' ? ['-N'] : ['--no-fork', '--config-file', await oxenstoredConfig(directory)];
    const daemon = spawn(binary, [...args, ...options], {
      env: {
        ...process.env,
        LD_PRELOAD: await installShim(directory),
        XENSTORED_RUNDIR: directory,
        XENSTORED_PATH: join(directory, 'socket'),
      },
      stdio: ['ignore', 'ignore', 'ignore'],
    });
    const server = new GenuineServer(releaseKind(kind, binary), directory, daemon);
    await server.#waitUntilUp();
    return server;
  }

  /** A connection as domain 0 has it. */
  connect(): Promise<XenstoreTransport> {
    return nativeProvider({ xenstorePath: this.socketPath }).connectXenstore();
  }

  /** Makes up a domain, introduces it, and gives its own connection. */
  async connectGuest(domid: number): Promise<XenstoreTransport> {
    await writeFile(join(this.directory, `dom${domid}.page`), Buffer.alloc(XEN_PAGE_SIZE));
    await run('mkfifo', [join(this.directory, `dom${domid}.events`)]);
    await using client = XenstoreClient.open(await this.connect());
    await client.introduceDomain(domid, 1, 7);
    return new PageFileRing(this.directory, domid);
  }

  /** Takes a domain away, as RELEASE after its death does. */
  async removeGuest(domid: number): Promise<void> {
    await using client = XenstoreClient.open(await this.connect());
    await client.releaseDomain(domid);
    for (const end of ['page', 'events', 'port']) {
      await rm(join(this.directory, `dom${domid}.${end}`), { force: true });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const exit = once(this.#process, 'exit');
      this.#process.kill('SIGKILL');
      await exit;
    }
    await rm(this.directory, { recursive: true, force: true });
  }

  async #waitUntilUp(): Promise<void> {
    const deadline = Date.now() + START_TIMEOUT_MS;
    for (;;) {
      const transport = await this.connect().catch(() => undefined);
      if (transport !== undefined) return transport.close();
      if (this.#process.exitCode !== null || Date.now() > deadline) {
        await this[Symbol.asyncDispose]();
        throw new Error(`${this.kind} did not begin to listen (exit code ${this.#process.exitCode})`);
      }
      await sleep(10);
    }
  }
}

let shim: Promise<Buffer> | undefined;

/** Puts the stand-in for the hypervisor into a server's directory; it is compiled once in a process. */
async function installShim(directory: string): Promise<string> {
  const file = join(directory, 'no-hypervisor.so');
  shim ??= run('cc', ['-shared', '-fPIC', '-O1', '-o', file, SHIM_SOURCE, '-ldl']).then(() => readFile(file));
  await writeFile(file, await shim);
  return file;
}

function daemonBinary(kind: GenuineKind): string | undefined {
  const folders = existsSync('/usr/lib') ? readdirSync('/usr/lib').filter((name) => name.startsWith('xen-')) : [];
  return folders.map((name) => `/usr/lib/${name}/bin/${kind}`).find((path) => existsSync(path));
}

/** Known differences are told by release. */
function releaseKind(kind: GenuineKind, binary: string): ServerKind {
  const minor = Number(/xen-4\.(\d+)/.exec(binary)?.[1]);
  return minor >= 20 ? `${kind}-4.20` : kind;
}

async function oxenstoredConfig(directory: string): Promise<string> {
  const path = join(directory, 'oxenstored.conf');
  const settings = {
    'pid-file': join(directory, 'pid'),
    'xenstored-kva': '/proc/xen/xsd_kva',
    'xenstored-port': '/proc/xen/xsd_port',
    'xenstored-log-file': join(directory, 'log'),
    'quota-activate': true,
    'perms-activate': true,
    persistent: false,
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} = ${value}\n`);
  await writeFile(path, lines.join(''));
  return path;
}
