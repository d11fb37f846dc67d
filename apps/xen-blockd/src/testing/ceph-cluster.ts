import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { endProcessesOf, ownFolder } from '@xenpv/test-support/own-folder';
import { freePort } from '@xenpv/test-support/ports';

const run = promisify(execFile);
const UP_MS = 60_000;
const ANSWER_MS = 60_000;

type Role = 'mon' | 'osd';
const IDS: Record<Role, string> = { mon: 'a', osd: '0' };

/**
 * A Ceph cluster of one monitor and one OSD on loopback, with keys, whose daemons can be killed and started again: both
 * keep what they have in files. There is no manager, which only counts.
 */
export class CephCluster implements AsyncDisposable {
  readonly directory = ownFolder(tmpdir(), 'blockd-ceph');
  readonly conf = join(this.directory, 'ceph.conf');
  readonly #daemons = new Map<Role, ChildProcess>();

  static async create(): Promise<CephCluster> {
    const cluster = new CephCluster();
    try {
      await cluster.#make();
      return cluster;
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** Standard output of a command of the cluster's tools, as its administrator. */
  async ask(program: 'ceph' | 'rbd' | 'rados', ...args: string[]): Promise<string> {
    const admin = ['-c', this.conf, '--keyring', this.path('admin')];
    const { stdout } = await run(program, [...admin, ...args], { timeout: ANSWER_MS });
    return stdout;
  }

  async createImage(name: string, mebibytes: number): Promise<void> {
    await this.ask('rbd', 'create', name, '--size', `${mebibytes}M`);
  }

  /** Has the cluster know another user, whose keyring is made. */
  async createUser(user: string, ...caps: string[]): Promise<void> {
    await this.ask('ceph', 'auth', 'get-or-create', `client.${user}`, ...caps, '-o', this.path(`client.${user}`));
  }

  start(role: Role): void {
    const args = ['-f', '-i', IDS[role], '-c', this.conf];
    this.#daemons.set(role, spawn(`ceph-${role}`, args, { stdio: 'ignore' }));
  }

  /** As by kill -9. Resolves when it is gone. */
  async kill(role: Role): Promise<void> {
    const daemon = this.#daemons.get(role);
    this.#daemons.delete(role);
    if (!daemon || daemon.exitCode !== null || daemon.signalCode !== null) return;
    daemon.kill('SIGKILL');
    await once(daemon, 'exit');
  }

  async up(): Promise<void> {
    const deadline = performance.now() + UP_MS;
    for (;;) {
      const said = await this.ask('ceph', '--connect-timeout', '5', 'osd', 'stat').catch(String);
      if (said.includes('1 up')) return;
      if (performance.now() > deadline) throw new Error(`the cluster is not up: ${said}`);
      await sleep(200);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const role of ['osd', 'mon'] as const) await this.kill(role);
    endProcessesOf(this.directory);
    rmSync(this.directory, { recursive: true, force: true });
  }

  async #make(): Promise<void> {
    const fsid = randomUUID();
    const address = `[v2:127.0.0.1:${await freePort()}]`;
    for (const name of ['mon', 'osd', 'run']) mkdirSync(this.path(name));
    writeFileSync(this.conf, this.#text(fsid, address));
    const admin = ['--cap', 'mon', 'allow *', '--cap', 'osd', 'allow *', '--cap', 'mgr', 'allow *'];
    await run('ceph-authtool', [
      '--create-keyring',
      this.path('keys'),
      '--gen-key',
      '-n',
      'mon.',
      '--cap',
      'mon',
      'allow *',
    ]);
    await run('ceph-authtool', ['--create-keyring', this.path('admin'), '--gen-key', '-n', 'client.admin', ...admin]);
    await run('ceph-authtool', [this.path('keys'), '--import-keyring', this.path('admin')]);
    await run('monmaptool', ['--create', '--addv', 'a', address, '--fsid', fsid, this.path('monmap')]);
    const made = ['--mkfs', '-i', 'a', '--monmap', this.path('monmap'), '--keyring', this.path('keys')];
    await run('ceph-mon', [...made, '-c', this.conf]);
    this.start('mon');
    await this.#makeOsd();
    await this.ask('ceph', 'osd', 'pool', 'create', 'rbd', '8', '8');
  }

  async #makeOsd(): Promise<void> {
    const uuid = randomUUID();
    await this.ask('ceph', 'osd', 'new', uuid);
    await this.ask(
      'ceph',
      'auth',
      'get-or-create',
      'osd.0',
      'mon',
      'allow profile osd',
      'osd',
      'allow *',
      '-o',
      this.path('osd/keyring'),
    );
    await run('ceph-osd', ['-i', '0', '--mkfs', '--osd-uuid', uuid, '-c', this.conf]);
    this.start('osd');
    await this.up();
  }

  #text(fsid: string, address: string): string {
    return [
      '[global]',
      `fsid = ${fsid}`,
      `mon host = ${address}`,
      'mon initial members = a',
      'public network = 127.0.0.0/8',
      `run dir = ${this.path('run')}`,
      `log file = ${this.path('$name.log')}`,
      `admin socket = ${this.path('run/$name.$pid.asok')}`,
      `mon data = ${this.path('mon')}`,
      `osd data = ${this.path('osd')}`,
      'auth client required = cephx',
      'osd pool default size = 1',
      'osd pool default min size = 1',
      'mon allow pool size one = true',
      'osd crush chooseleaf type = 0',
      'osd objectstore = bluestore',
      'bluestore block size = 1073741824',
      'osd memory target = 939524096',
      // A dead OSD is told of by its host's kernel, and one that comes back is not waited for.
      'osd fast shutdown = true',
      'mon osd down out interval = 0',
      'mon data avail crit = 1',
      'mon data avail warn = 1',
      '[client]',
      `keyring = ${this.path('$name')}`,
      `[client.admin]`,
      `keyring = ${this.path('admin')}`,
      '',
    ].join('\n');
  }
}
