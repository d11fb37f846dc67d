import { domainPath } from '@xenpv/xenbus';
import type { Permission, XenstoreOperations } from '@xenpv/xenstore';

/** A domain as its xenstore nodes describe it. */
export interface DomainDescription {
  readonly domid: number;
  readonly name: string;
  readonly uuid: string;
  readonly memoryMiB: number;
  /** May run backends for other domains (`driver_domain=1` in xl.cfg). */
  readonly driverDomain: boolean;
}

/** Directories that the guest may write below (libxl's rwperm). */
const GUEST_WRITABLE = [
  'control/shutdown',
  'control/feature-poweroff',
  'control/feature-reboot',
  'control/feature-suspend',
  'control/sysrq',
  'device/suspend/event-channel',
  'data',
  'drivers',
  'feature',
  'attr',
  'error',
];

/** Directories that a driver domain may write besides. */
const DRIVER_WRITABLE = ['backend', 'libxl', 'device-model'];

/** Writes what libxl writes when it makes a domain (libxl__domain_make, libxl__build_post). */
export async function writeDomainNodes(tx: XenstoreOperations, domain: DomainDescription): Promise<void> {
  const path = domainPath(domain.domid);
  const vm = `/vm/${domain.uuid}`;
  const readable: Permission[] = [
    { domid: 0, access: 'n' },
    { domid: domain.domid, access: 'r' },
  ];
  const owned: Permission[] = [{ domid: domain.domid, access: 'n' }];
  await tx.remove(path);
  for (const directory of [path, vm]) await makeDirectory(tx, directory, readable);
  await makeDirectory(tx, `/libxl/${domain.domid}`, [{ domid: 0, access: 'n' }]);
  for (const name of ['cpu', 'memory', 'device', 'control']) await makeDirectory(tx, `${path}/${name}`, readable);
  const writable = domain.driverDomain ? [...GUEST_WRITABLE, ...DRIVER_WRITABLE] : GUEST_WRITABLE;
  for (const name of writable) await makeDirectory(tx, `${path}/${name}`, owned);
  for (const [name, value] of Object.entries(domainValues(domain, vm))) await tx.write(`${path}/${name}`, value);
  await tx.write(`${vm}/uuid`, domain.uuid);
  await tx.write(`${vm}/name`, domain.name);
  await tx.write(`/libxl/${domain.domid}/type`, 'pvh');
}

function domainValues(domain: DomainDescription, vm: string): Record<string, string | number> {
  const kib = domain.memoryMiB * 1024;
  return {
    vm,
    name: domain.name,
    domid: domain.domid,
    'cpu/0/availability': 'online',
    'memory/static-max': kib,
    'memory/target': kib,
    'memory/videoram': 0,
    'control/platform-feature-multiprocessor-suspend': 1,
    'control/platform-feature-xs_reset_watches': 1,
    // The reserved reference and the first port, as on every guest.
    'store/ring-ref': 1,
    'store/port': 1,
  };
}

/** Removes what {@link writeDomainNodes} wrote, and all below. */
export async function removeDomainNodes(tx: XenstoreOperations, domid: number): Promise<void> {
  const vm = await tx.tryRead(`${domainPath(domid)}/vm`);
  if (vm?.startsWith('/vm/')) await tx.remove(vm);
  await tx.remove(domainPath(domid));
  await tx.remove(`/libxl/${domid}`);
}

async function makeDirectory(tx: XenstoreOperations, path: string, permissions: Permission[]): Promise<void> {
  await tx.mkdir(path);
  await tx.setPermissions(path, permissions);
}
