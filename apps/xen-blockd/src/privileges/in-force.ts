import { existsSync } from 'node:fs';
import { findTool, runTool } from '../tools.js';
import { USED } from './capabilities.js';
import { isDaemon, type ProcessPrivileges, privilegesOf, processesLike } from './process-privileges.js';

/** What keeps a process of ours from doing more than it must. */
export interface PrivilegesInForce {
  /** What it is: `daemon`, `running helper`, `unit`. */
  readonly name: string;
  /** Nothing is missing. */
  readonly ok: boolean;
  /** In words, for people. */
  readonly detail: string;
  /** For programs. */
  readonly privileges?: ProcessPrivileges;
  /** Of a unit: from 0, nothing of the machine is open to it, to 10. */
  readonly exposure?: number;
}

const UNIT = 'xen-blockd.service';
/** Of the unit as it is shipped: what is more was opened by a drop-in. */
const SHIPPED_EXPOSURE = 3.9;
/** Helpers of the files of others have it, in a root that has no other files. */
const OF_HELPERS: ReadonlySet<string> = new Set(['dac_override']);

/** Daemons that run, as far as this user may see them. */
export function daemonProcesses(): number[] {
  return processesLike(isDaemon);
}

/** Of each daemon that runs, each storage helper, and the unit where systemd is. */
export async function privilegesInForce(): Promise<PrivilegesInForce[]> {
  const daemons = daemonProcesses().flatMap((pid) => described('daemon', pid, USED));
  const helpers = processesLike(isHelper).flatMap((pid) => described('running helper', pid, OF_HELPERS));
  const none = { name: 'daemon', ok: false, detail: 'none runs, or this user may not see it' };
  return [...(daemons.length > 0 ? daemons : [none]), ...helpers, ...(await ofUnit())];
}

/** As this program starts them, and adopts them. */
function isHelper([program = '', ...words]: readonly string[]): boolean {
  return program.endsWith('qemu-storage-daemon') && words.some((word) => word.includes('"authz-simple"'));
}

function described(name: string, pid: number, used: ReadonlySet<string>): PrivilegesInForce[] {
  const privileges = privilegesOf(pid);
  if (privileges === undefined) return [];
  const { uid, capabilities, noNewPrivileges, filtered, noCoreDumps } = privileges;
  const unused = capabilities.filter((capability) => !used.has(capability));
  const missing = [
    ...(unused.length > 0 ? [`capabilities that it does not use (${unused.length})`] : []),
    ...(noNewPrivileges ? [] : ['new privileges by programs']),
    ...(filtered ? [] : ['all system calls']),
    ...(noCoreDumps ? [] : ['core dumps']),
  ];
  const inForce = [
    `user ${uid}`,
    unused.length > 0 ? undefined : capabilities.length > 0 ? `only ${capabilities.join(', ')}` : 'no capabilities',
    noNewPrivileges ? 'no_new_privs' : undefined,
    filtered ? 'filtered system calls' : undefined,
    noCoreDumps ? 'no core dumps' : undefined,
  ];
  const words = `pid ${pid}: ${inForce.filter((word) => word !== undefined).join(', ')}`;
  const open = missing.length > 0 ? `; open, which the unit ${UNIT} closes: ${missing.join(', ')}` : '';
  return [{ name, ok: missing.length === 0, detail: words + open, privileges }];
}

async function ofUnit(): Promise<PrivilegesInForce[]> {
  if (!existsSync('/run/systemd/system') || !findTool('systemd-analyze')) return [];
  const { code, stdout } = await runTool('systemd-analyze', ['security', '--no-pager', UNIT]);
  const exposure = code === 0 ? exposureIn(stdout) : undefined;
  if (exposure === undefined) return [];
  const detail = `${UNIT}: an exposure of ${exposure} of 10, as systemd-analyze security counts`;
  return [{ name: 'unit', ok: exposure <= SHIPPED_EXPOSURE, detail, exposure }];
}

/** What `systemd-analyze security` says in its last line, or undefined. */
export function exposureIn(text: string): number | undefined {
  const number = Number(/Overall exposure level for \S+: ([\d.]+)/.exec(text)?.[1]);
  return Number.isNaN(number) ? undefined : number;
}
