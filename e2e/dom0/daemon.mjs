/** xen-blockd in dom0 or in a storage driver domain, and what it holds there. */
import { spawn } from 'node:child_process';
import { openSync, readFileSync } from 'node:fs';
import { BLOCKD, MAIN } from './paths.mjs';
import { CommandError, sh, until } from './shell.mjs';

let runs = 0;

/** The daemon in dom0, serving `types`. */
export class Daemon {
  static async start({ types, args = '', env = {}, logLevel = 'debug', nodeArgs = [] }) {
    await sh(`cp ${BLOCKD}/hotplug/block-xen-blockd /etc/xen/scripts/`);
    const daemon = new Daemon(types, args, env, logLevel, nodeArgs);
    await daemon.start();
    return daemon;
  }

  constructor(types, args, env, logLevel, nodeArgs) {
    this.types = types;
    this.args = args;
    this.env = env;
    this.logLevel = logLevel;
    this.nodeArgs = nodeArgs;
  }

  async start() {
    this.spawn();
    await this.logged('"ready"');
  }

  /** Starts the process, in the control group `this.group` or in the parent's. */
  spawn() {
    this.log = `/tmp/logs/xen-blockd-${this.types}-${++runs}.log`;
    const out = openSync(this.log, 'w');
    const args = [
      ...this.nodeArgs,
      MAIN,
      'run',
      '--type',
      this.types,
      '--log-level',
      this.logLevel,
      '--log-format',
      'json',
    ];
    const options = { stdio: ['ignore', out, out], env: { ...process.env, ...this.env } };
    const program = ['node', ...args, ...this.args.split(' ').filter(Boolean)];
    const enter = this.group ? `echo $$ >${this.group}/cgroup.procs && ` : '';
    this.child = spawn('sh', ['-c', `${enter}exec "$@"`, 'sh', ...program], options);
    this.ended = new Promise((resolve) => {
      this.child.on('exit', (code, signal) => resolve(signal ?? code));
    });
  }

  /** Waits until `text` has been logged `times` times in this life. Errors: the process ended. */
  async logged(text, { times = 1, timeout = 60 } = {}) {
    const isLogged = () => {
      this.check();
      return readFileSync(this.log, 'utf8').split(text).length > times;
    };
    await until(`${text} in the log of xen-blockd`, isLogged, { timeout, every: 0.05 });
  }

  get pid() {
    return this.child.pid;
  }

  /** Runs a command where the daemon runs. */
  sh(command, options) {
    return sh(command, options);
  }

  tail(lines = 25) {
    return readFileSync(this.log, 'utf8').split('\n').slice(-lines).join('\n');
  }

  /** SIGTERM, and its end. Resolves with the exit code. */
  async stop({ signal = 'SIGTERM' } = {}) {
    this.child.kill(signal);
    const timer = setTimeout(() => this.child.kill('SIGKILL'), 40_000);
    const code = await this.ended;
    clearTimeout(timer);
    return code;
  }

  /** Errors: the daemon is not running any more. */
  check() {
    if (this.child.exitCode === null && this.child.signalCode === null) return;
    throw new Error(`xen-blockd ended with ${this.child.exitCode ?? this.child.signalCode}:\n${this.tail()}`);
  }
}

/** The daemon in a driver domain; `domain` runs the lab's agent. */
export class RemoteDaemon {
  static async start(domain, { types, args = '' }) {
    const daemon = new RemoteDaemon(domain);
    const command = `setsid node ${MAIN} run --type ${types} --log-level debug --log-format json ${args}`;
    await domain.sh(`${command} >/tmp/xen-blockd.log 2>&1 </dev/null & echo $! >/tmp/xen-blockd.pid`);
    daemon.pid = Number(await domain.sh('cat /tmp/xen-blockd.pid'));
    const wait = `for i in $(seq 120); do grep -q '"ready"' /tmp/xen-blockd.log && exit 0; sleep 0.5; done; cat /tmp/xen-blockd.log; exit 1`;
    await domain.sh(wait);
    return daemon;
  }

  constructor(domain) {
    this.domain = domain;
  }

  sh(command, options) {
    return this.domain.sh(command, options);
  }

  tail() {
    return this.domain.sh('tail -n 25 /tmp/xen-blockd.log');
  }

  async check() {
    try {
      await this.domain.sh(`kill -0 ${this.pid}`);
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      throw new Error(`xen-blockd ended:\n${await this.tail().catch(String)}`);
    }
  }

  async stop() {
    const wait = `kill ${this.pid}; for i in $(seq 80); do kill -0 ${this.pid} 2>/dev/null || exit 0; sleep 0.5; done; exit 1`;
    await this.domain.sh(wait);
  }
}

/**
 * What the daemon's process holds: descriptors, granted pages mapped, and event channels of its whole domain.
 * After a disk is gone it must be what it was before.
 */
export async function holdings(daemon) {
  const text = await daemon.sh(
    [
      `echo fds $(ls /proc/${daemon.pid}/fd | wc -l)`,
      `echo maps $(grep -c gntdev /proc/${daemon.pid}/maps)`,
      `echo ports $(grep -c xen-dyn.*evtchn /proc/interrupts)`,
    ].join('; '),
  );
  return Object.fromEntries(
    text
      .trim()
      .split('\n')
      .map((line) => [line.split(' ')[0], Number(line.split(' ')[1])]),
  );
}
