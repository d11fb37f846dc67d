import { nativeProvider, requireNativeAddon, type XenProvider } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { errorCode } from '../../errors.js';
import { cageInForce } from '../../images/storage-daemon/cage.js';
import { daemonProcesses, type PrivilegesInForce, privilegesInForce } from '../../privileges/in-force.js';
import { checkCompetitors } from './competitors.js';
import { checkConfiguration } from './configuration.js';
import { type Finding, good, missing, note, textOf } from './finding.js';
import { checkHelperDrivers } from './helper-drivers.js';
import { checkHotplugScript } from './hotplug-script.js';
import { checkIoUring } from './io-uring.js';
import { checkJournal } from './journal.js';
import { checkLimits } from './limits.js';
import { checkQuotas } from './quotas.js';
import { checkRunning } from './running.js';
import { checkUnit } from './unit.js';

const XENSTORE_TIMEOUT_MS = 10_000;

const XENSTORE_REMEDY = 'systemctl start xenstored, or xen on Debian; in a driver domain modprobe xenfs';
const REMEDIES: Readonly<Record<string, string>> = {
  'native addon': 'install the package anew, on Linux on x64 or arm64; or build it, see CONTRIBUTING.md',
  'event channels': 'modprobe xen_evtchn; apt install libxenevtchn1; run this as root',
  'grant table': 'modprobe xen_gntdev; apt install libxengnttab1; run this as root',
  xenstore: XENSTORE_REMEDY,
};

/**
 * Everything that the daemon needs, or that makes it better, and everything in its way, by the configuration that it would
 * read. Nothing is changed; every handle is closed again.
 */
export async function checkMachine(): Promise<Finding[]> {
  const { findings: configuration, config } = checkConfiguration();
  const { types, threads, engine } = config;
  const { findings: xen, domid } = await checkProvider(types);
  const daemons = daemonProcesses();
  return [
    { name: 'node', ok: true, needed: true, detail: process.version },
    checkHypervisor(),
    ...xen,
    ...configuration,
    ...checkCompetitors(types, domid),
    ...(domid === undefined || domid === 0 ? [checkHotplugScript(types)] : []),
    await checkIoUring(engine),
    ...checkLimits(daemons[0] ?? 'self', threads),
    await checkJournal(config['journal-directory']),
    await checkHelperDrivers(),
    await checkCage(config['helper-user']),
    ...(await checkUnit()),
    ...(await checkRunning(daemons, config['control-socket'])),
    ...(await privilegesInForce()).map((found) => ({ ...found, needed: false, ...privilegesRemedy(found) })),
  ];
}

function checkHypervisor(): Finding {
  const version = (part: string) => textOf('/', `sys/hypervisor/version/${part}`) ?? '?';
  const name = 'hypervisor';
  if (textOf('/', 'sys/hypervisor/type') === 'xen') {
    return { name, ok: true, needed: true, detail: `xen ${version('major')}.${version('minor')}` };
  }
  return missing(name, 'this machine does not run under Xen', 'boot it under Xen; xen-blockd demo needs none');
}

interface XenFindings {
  readonly findings: readonly Finding[];
  /** Of this domain, if xenstored tells it. */
  readonly domid: number | undefined;
}

async function checkProvider(types: readonly string[]): Promise<XenFindings> {
  try {
    requireNativeAddon();
  } catch (error) {
    return { findings: [failure('native addon', error)], domid: undefined };
  }
  const provider = nativeProvider();
  const { grantCopy, foreignMemory } = provider.features;
  const { findings: xenstore, domid } = await checkXenstore(provider, types);
  const findings = [
    { name: 'native addon', ok: true, needed: true, detail: 'loaded' },
    attempt('event channels', () => provider.openEventChannels().close()),
    attempt('grant table', () => provider.openGrantTable().close()),
    grantCopy
      ? good('grant copy', 'usable')
      : note('grant copy', "not there; each request's pages are mapped instead", 'Linux 3.15 and Xen 4.2, or later'),
    foreignMemory
      ? good('foreign memory', 'usable')
      : note(
          'foreign memory',
          'not there; disks do not need it',
          'apt install libxenforeignmemory1, for what needs it',
        ),
    ...xenstore,
  ];
  return { findings, domid };
}

async function checkXenstore(provider: XenProvider, types: readonly string[]): Promise<XenFindings> {
  const name = 'xenstore';
  const signal = AbortSignal.timeout(XENSTORE_TIMEOUT_MS);
  try {
    const store = XenstoreClient.open(await provider.connectXenstore({ signal }));
    try {
      const text = await store.tryRead('domid', { signal });
      if (text === undefined) {
        const without = missing(name, 'it has no "domid" for this domain', 'in dom0 run xen-init-dom0');
        return { findings: [{ ...without, code: 'ENOENT' }], domid: undefined };
      }
      const domid = Number(text);
      const found = { name, ok: true, needed: true, detail: `this is domain ${domid}` };
      return { findings: [found, await checkQuotas(store, domid, types)], domid };
    } finally {
      await store.close();
    }
  } catch (error) {
    if (!signal.aborted) return { findings: [failure(name, error)], domid: undefined };
    const late = missing(name, `no answer within ${XENSTORE_TIMEOUT_MS / 1000} s`, XENSTORE_REMEDY);
    return { findings: [{ ...late, code: 'ERR_TIMEOUT' }], domid: undefined };
  }
}

/** Of images that are not raw. */
async function checkCage(user: string): Promise<Finding> {
  const found = { name: 'storage helpers', needed: false, ...(await cageInForce(user)) };
  if (found.ok) return found;
  return {
    ...found,
    remedy: 'apt install qemu-system-common util-linux coreutils; run the daemon as root, by its unit',
  };
}

function privilegesRemedy({ name, ok, privileges }: PrivilegesInForce): { readonly remedy?: string } {
  if (ok) return {};
  if (name === 'unit') return { remedy: 'systemctl edit xen-blockd shows what a drop-in has opened' };
  if (privileges === undefined) return { remedy: 'systemctl start xen-blockd, or run this as root' };
  return { remedy: 'start it by its unit: systemctl start xen-blockd' };
}

function attempt(name: string, work: () => void): Finding {
  try {
    work();
    return { name, ok: true, needed: true, detail: 'usable' };
  } catch (error) {
    return failure(name, error);
  }
}

function failure(name: string, error: unknown): Finding {
  const code = errorCode(error) ?? 'ERR_XEN';
  return { ...missing(name, (error as Error).message, REMEDIES[name] ?? 'see docs/operations.md'), code };
}
