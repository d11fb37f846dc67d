import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { nativeProvider, requireNativeAddon, type XenProvider } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { errorCode } from '../errors.js';

/** One thing looked for on this machine. */
export interface Finding {
  readonly name: string;
  readonly ok: boolean;
  /** Whether the daemon cannot run without it. */
  readonly needed: boolean;
  /** What was found, or what is wrong and what brings it. */
  readonly detail: string;
  /** Of the error, where there was one: `ERR_NO_DEVICE`, `EACCES`. */
  readonly code?: string;
}

const XENSTORE_TIMEOUT_MS = 3000;

/** Looks for all that the daemon needs or uses. Nothing is changed; every handle is closed again. */
export async function checkMachine(): Promise<Finding[]> {
  const node = { name: 'node', ok: true, needed: true, detail: process.version };
  const hypervisor = readText('/sys/hypervisor/type');
  const under = { name: 'hypervisor', ok: hypervisor === 'xen', needed: true, detail: describeHypervisor(hypervisor) };
  return [node, under, ...(await checkProvider()), ...checkCompetitors()];
}

async function checkProvider(): Promise<Finding[]> {
  try {
    requireNativeAddon();
  } catch (error) {
    return [failure('native addon', error)];
  }
  const provider = nativeProvider();
  return [
    { name: 'native addon', ok: true, needed: true, detail: 'loaded' },
    attempt('event channels', true, () => provider.openEventChannels().close()),
    attempt('grant table', true, () => provider.openGrantTable().close()),
    feature('grant copy', provider.features.grantCopy, 'without it pages are mapped and copied one by one'),
    feature('foreign memory', provider.features.foreignMemory, 'disks do not need it; libxenforeignmemory brings it'),
    await checkXenstore(provider),
  ];
}

async function checkXenstore(provider: XenProvider): Promise<Finding> {
  const signal = AbortSignal.timeout(XENSTORE_TIMEOUT_MS);
  try {
    const store = XenstoreClient.open(await provider.connectXenstore({ signal }));
    const domid = await store.tryRead('domid', { signal }).finally(() => store.close());
    return { name: 'xenstore', ok: true, needed: true, detail: `this is domain ${domid ?? '0'}` };
  } catch (error) {
    if (!signal.aborted) return failure('xenstore', error);
    const detail = `no answer within ${XENSTORE_TIMEOUT_MS / 1000} s; is xenstored running?`;
    return { name: 'xenstore', ok: false, needed: true, detail, code: 'ERR_TIMEOUT' };
  }
}

/** Others that would serve the same backend types. */
function checkCompetitors(): Finding[] {
  const blkback = existsSync('/sys/module/xen_blkback');
  const others = [
    {
      name: 'xen-blkback',
      ok: !blkback,
      needed: false,
      detail: blkback ? 'loaded: it serves type vbd; before serving that, modprobe -r xen-blkback' : 'not loaded',
    },
  ];
  const devd = processes().some((line) => /\bxl\0devd\b/.test(line));
  const detail = devd ? 'running: it serves type qdisk in a driver domain; stop it first' : 'not running';
  return [...others, { name: 'xl devd', ok: !devd, needed: false, detail }];
}

function processes(): string[] {
  const pids = existsSync('/proc') ? readdirSync('/proc').filter((name) => /^\d+$/.test(name)) : [];
  return pids.map((pid) => readText(`/proc/${pid}/cmdline`) ?? '');
}

function attempt(name: string, needed: boolean, work: () => void): Finding {
  try {
    work();
    return { name, ok: true, needed, detail: 'usable' };
  } catch (error) {
    return { ...failure(name, error), needed };
  }
}

function feature(name: string, ok: boolean, without: string): Finding {
  return { name, ok, needed: false, detail: ok ? 'usable' : `not there; ${without}` };
}

function failure(name: string, error: unknown): Finding {
  return { name, ok: false, needed: true, detail: (error as Error).message, code: errorCode(error) ?? 'ERR_XEN' };
}

function describeHypervisor(type: string | undefined): string {
  if (type === 'xen')
    return `xen ${readText('/sys/hypervisor/version/major') ?? '?'}.${readText('/sys/hypervisor/version/minor') ?? '?'}`;
  return 'this machine does not run under Xen; xen-blockd demo needs none';
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/** A line for each. */
export function formatFindings(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ name }) => name.length));
  const mark = ({ ok, needed }: Finding) => (ok ? 'ok     ' : needed ? 'MISSING' : 'note   ');
  return findings.map((finding) => `${mark(finding)}  ${finding.name.padEnd(width)}  ${finding.detail}\n`).join('');
}
