import { existsSync, readFileSync } from 'node:fs';
import { nativeProvider, requireNativeAddon, type XenProvider } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { errorCode } from '../errors.js';
import { cageInForce } from '../images/storage-daemon/cage.js';
import { privilegesInForce } from '../privileges/in-force.js';
import type { ProcessPrivileges } from '../privileges/process-privileges.js';
import { commandLine, processIds } from '../proc.js';
import { DEFAULTS } from './config.js';

/** One thing looked for on this machine. */
export interface Finding {
  readonly name: string;
  readonly ok: boolean;
  /** Whether the daemon cannot run without it. */
  readonly needed: boolean;
  /** The thing that was found, or the problem and the package that solves it. */
  readonly detail: string;
  /** Of the error, where there was one: `ERR_NO_DEVICE`, `EACCES`. */
  readonly code?: string;
  /** Of a daemon or storage helper that runs. */
  readonly privileges?: ProcessPrivileges;
  /** Of the unit: from 0, nothing of the machine is open to it, to 10. */
  readonly exposure?: number;
}

const XENSTORE_TIMEOUT_MS = 3000;

const WITHOUT_GRANT_COPY = "each request's pages are mapped instead";
const WITHOUT_FOREIGN_MEMORY = 'disks do not need it; libxenforeignmemory brings it';

/** Looks for all that the daemon needs or uses. Nothing is changed; every handle is closed again. */
export async function checkMachine(): Promise<Finding[]> {
  const node = { name: 'node', ok: true, needed: true, detail: process.version };
  const hypervisor = readText('/sys/hypervisor/type');
  const under = { name: 'hypervisor', ok: hypervisor === 'xen', needed: true, detail: describeHypervisor(hypervisor) };
  const privileges = (await privilegesInForce()).map((found) => ({ ...found, needed: false }));
  return [node, under, ...(await checkProvider()), ...checkCompetitors(), await checkHelpers(), ...privileges];
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
    attempt('event channels', () => provider.openEventChannels().close()),
    attempt('grant table', () => provider.openGrantTable().close()),
    optional('grant copy', provider.features.grantCopy ? undefined : WITHOUT_GRANT_COPY),
    optional('foreign memory', provider.features.foreignMemory ? undefined : WITHOUT_FOREIGN_MEMORY),
    await checkXenstore(provider),
  ];
}

async function checkXenstore(provider: XenProvider): Promise<Finding> {
  const signal = AbortSignal.timeout(XENSTORE_TIMEOUT_MS);
  try {
    const store = XenstoreClient.open(await provider.connectXenstore({ signal }));
    const domid = await store.tryRead('domid', { signal }).finally(() => store.close());
    if (domid !== undefined) return { name: 'xenstore', ok: true, needed: true, detail: `this is domain ${domid}` };
    const detail = 'it has no "domid" for this domain; in dom0 run xen-init-dom0';
    return { name: 'xenstore', ok: false, needed: true, detail, code: 'ENOENT' };
  } catch (error) {
    if (!signal.aborted) return failure('xenstore', error);
    const detail = `no answer within ${XENSTORE_TIMEOUT_MS / 1000} s; is xenstored running?`;
    return { name: 'xenstore', ok: false, needed: true, detail, code: 'ERR_TIMEOUT' };
  }
}

/** Others that would serve the same backend types. */
function checkCompetitors(): Finding[] {
  const blkback = existsSync('/sys/module/xen_blkback');
  const devd = processIds().some((pid) => /\bxl\0devd\b/.test(commandLine(pid).join('\0')));
  return [
    {
      name: 'xen-blkback',
      ok: !blkback,
      needed: false,
      detail: blkback ? 'loaded: it serves type vbd; before serving that, modprobe -r xen-blkback' : 'not loaded',
    },
    {
      name: 'xl devd',
      ok: !devd,
      needed: false,
      detail: devd ? 'running: it serves type qdisk in a driver domain; stop it first' : 'not running',
    },
  ];
}

/** Of images that are not raw. */
async function checkHelpers(): Promise<Finding> {
  return { name: 'storage helpers', needed: false, ...(await cageInForce(DEFAULTS['helper-user'])) };
}

function attempt(name: string, work: () => void): Finding {
  try {
    work();
    return { name, ok: true, needed: true, detail: 'usable' };
  } catch (error) {
    return failure(name, error);
  }
}

/** `without`: what its absence means, or undefined if it is there. */
function optional(name: string, without: string | undefined): Finding {
  const detail = without === undefined ? 'usable' : `not there; ${without}`;
  return { name, ok: without === undefined, needed: false, detail };
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
