import { setTimeout as sleep } from 'node:timers/promises';
import { printable } from '@xenpv/xenbus';
import { UPGRADE_ANSWERS } from '../../control/answers.js';
import { checkConfiguration } from '../../daemon/check/configuration.js';
import { checkJournal } from '../../daemon/check/journal.js';
import { DEFAULT_CONFIG_PATH } from '../../daemon/config.js';
import { BlockdError, ExitCode } from '../../errors.js';
import { packageVersion } from '../../package-root.js';
import type { DaemonStatus } from '../../status/daemon-status.js';
import type { DiskReport } from '../../status/disks/device-status.js';
import { diskState } from '../../status/disks/disk-state.js';
import { findTool, runTool } from '../../tools.js';
import { answerOf, disksOf, print, type QueryOptions } from '../queries/query.js';
import type { UpgradeOptions } from './options.js';

const UNIT = 'xen-blockd.service';
const ANSWER_MS = 10_000;
const LOOK_MS = 50;
/** As long as the unit may take to start. */
const BACK_SECONDS = 600;
/** A daemon that serves knows all disks that there are; one that it has not named for so long was taken away. */
const GONE_MS = 1000;

/** What an upgrade has found or done. */
interface UpgradeReport {
  readonly from: string;
  readonly to: string;
  /** What stands against a restart; it was not tried then. */
  readonly against: readonly string[];
  readonly restarted: boolean;
  /** Seconds from the request of the restart until the last disk was served again. */
  readonly pause?: number;
  /** Disks that were connected, and are so again. */
  readonly served: readonly string[];
  /** Disks that were connected, and are not yet. */
  readonly missing: readonly string[];
  /** Disks that were connected, and were detached meanwhile. */
  readonly gone: readonly string[];
}

interface Seen {
  readonly daemon: DaemonStatus;
  readonly disks: readonly DiskReport[];
}

/** `xen-blockd upgrade`; resolves with the exit code. Errors: ERR_AWAY, there is no daemon; ERR_TOOL, systemctl fails. */
export async function upgrade(options: UpgradeOptions): Promise<number> {
  const before = await see(options).catch((error) => {
    throw new BlockdError('ERR_AWAY', 'upgrade', (error as Error).message, { cause: error });
  });
  const to = `xen-blockd ${packageVersion()}`;
  const report: UpgradeReport = {
    from: before.daemon.version,
    to,
    against: [],
    restarted: false,
    served: [],
    missing: [],
    gone: [],
  };
  if (report.from === to && !options.force) return tell(options, report, ExitCode.ok);
  const against = await standsAgainst(before.daemon);
  if (against.length > 0) return tell(options, { ...report, against }, ExitCode.failure);
  if (options.check) return tell(options, report, ExitCode.ok);
  return restart(options, report, before);
}

async function see(options: QueryOptions): Promise<Seen> {
  const { daemon: answer, disks: disksAnswer } = UPGRADE_ANSWERS;
  const about = { command: 'x-query-daemon', answer, answerMs: ANSWER_MS };
  const daemon = await answerOf<DaemonStatus>(options, about);
  const asked = { command: 'x-query-disks', answer: disksAnswer, answerMs: ANSWER_MS };
  return { daemon, disks: await disksOf(options, asked) };
}

/** Why guests could lose more than a moment, each in words with what to do. */
async function standsAgainst({ pid, serving, configuration }: DaemonStatus): Promise<string[]> {
  const { findings, config } = checkConfiguration(configuration ?? DEFAULT_CONFIG_PATH);
  const journal = await checkJournal(config['journal-directory']);
  const wrong = [...findings, journal].filter(({ ok }) => !ok);
  return [
    ...(serving ? [] : ['the daemon is starting: wait until it serves']),
    ...wrong.map(({ name, detail, remedy }) => `${name}: ${detail}: ${remedy}`),
    ...(await unitProblems(pid)),
  ];
}

async function unitProblems(pid: number): Promise<string[]> {
  const { stdout } = await systemctl('show', UNIT, '--property=LoadState,MainPID,NeedDaemonReload');
  const value = (name: string) => new RegExp(`^${name}=(.*)$`, 'm').exec(stdout)?.[1];
  if (value('LoadState') !== 'loaded') return [`${UNIT} is not installed: restart the daemon with what starts it`];
  if (value('MainPID') !== `${pid}`) {
    return [`the daemon that answers, pid ${pid}, is not that of ${UNIT}: restart it with what starts it`];
  }
  return value('NeedDaemonReload') === 'yes' ? [`${UNIT} has changed on disk: systemctl daemon-reload`] : [];
}

/** Error: ERR_TOOL. */
async function systemctl(...args: string[]) {
  const program = findTool('systemctl');
  if (program === undefined) {
    throw new BlockdError('ERR_TOOL', 'upgrade', 'there is no systemctl: restart the daemon with what starts it');
  }
  const outcome = await runTool(program, args);
  if (outcome.code === 0) return outcome;
  const message = `systemctl ${args.join(' ')}: ${outcome.stderr.trim() || `it ended with ${outcome.code}`}`;
  throw new BlockdError('ERR_TOOL', 'upgrade', `${message}; see journalctl -u ${UNIT}`);
}

async function restart(options: QueryOptions, report: UpgradeReport, before: Seen): Promise<number> {
  const wanted = before.disks.filter((disk) => diskState(disk) === 'connected').map(({ device }) => device);
  const began = Date.now();
  const until = began + (options.timeout ?? BACK_SECONDS) * 1000;
  const restarting = systemctl('restart', UNIT);
  const failed = restarting.then(
    () => undefined,
    (error: Error) => error,
  );
  let seen: Seen | undefined;
  let servesSince: number | undefined;
  while (Date.now() < until) {
    await sleep(LOOK_MS);
    seen = await see(options).catch(() => undefined);
    const error = await Promise.race([failed, sleep(0)]);
    if (error) throw error;
    if (!seen?.daemon.serving || seen.daemon.pid === before.daemon.pid) continue;
    servesSince ??= Date.now();
    const waitsForNamed = Date.now() - servesSince >= GONE_MS;
    const awaited = waitsForNamed ? wanted.filter((device) => isKnown(seen, device)) : wanted;
    if (awaited.every((device) => isConnected(seen, device))) break;
  }
  const served = wanted.filter((device) => isConnected(seen, device));
  const since = (seen?.disks ?? [])
    .filter(({ device }) => served.includes(device))
    .map((disk) => Date.parse(disk.since ?? '') || Date.now());
  const gone = wanted.filter((device) => servesSince !== undefined && !isKnown(seen, device));
  const missing = wanted.filter((device) => !served.includes(device) && !gone.includes(device));
  const done = { ...report, restarted: true, served, missing, gone, to: seen?.daemon.version ?? report.to };
  const pause = since.length > 0 ? { pause: Math.max(0, Math.max(...since) - began) / 1000 } : {};
  return tell(options, { ...done, ...pause }, seen && missing.length === 0 ? ExitCode.ok : ExitCode.failure);
}

function isKnown(seen: Seen | undefined, device: string): boolean {
  return seen?.disks.some((disk) => disk.device === device) ?? false;
}

function isConnected(seen: Seen | undefined, device: string): boolean {
  return seen?.disks.some((disk) => disk.device === device && diskState(disk) === 'connected') ?? false;
}

function tell(options: QueryOptions, report: UpgradeReport, code: number): number {
  print(options, report, (done) =>
    linesOf(done)
      .map((line) => `${printable(line)}\n`)
      .join(''),
  );
  return code;
}

function linesOf({ from, to, against, restarted, pause, served, missing, gone }: UpgradeReport): string[] {
  if (against.length > 0) return [`not restarted: ${from} to ${to}`, ...against.map((text) => `  ${text}`)];
  if (!restarted) {
    return [
      from === to ? `${from} runs already; --force restarts it all the same` : `${from} can be restarted as ${to}`,
    ];
  }
  const seconds = pause === undefined ? '' : `; the last one was served again after ${pause.toFixed(2)} s`;
  return [
    `${from} was restarted as ${to}: ${served.length} disks are connected as before${seconds}`,
    ...gone.map((device) => `  ${device} was detached meanwhile`),
    ...missing.map((device) => `  ${device} is not connected yet: xen-blockd show ${device}`),
  ];
}
