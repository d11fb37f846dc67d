import type { Domid } from '@xenpv/xen-sys';
import type { DomainConfig, ShutdownReason } from '../domain.js';
import type { DomainUsage } from '../machine/machine.js';
import type { XlDisk } from '../toolstack/disk-config.js';
import type { AttachedDisk } from '../toolstack/toolstack.js';

/** A domain as another process asks for it. */
export interface RemoteDomainConfig extends DomainConfig {
  /** Whether it is destroyed when the one who asked for it goes, as a virtual machine is when its process dies. */
  readonly transient?: boolean | undefined;
}

/** A domain of a host in a folder. */
export interface DomainSummary {
  /** 0 for the control domain, which is listed first. */
  readonly domid: Domid;
  /** As it was given when the domain was made; `Domain-0` for domain 0. */
  readonly name: string;
  /** What it held when the host answered. */
  readonly usage: DomainUsage;
  /** Why it is not running any more, if it is not. */
  readonly shutdownReason?: ShutdownReason | undefined;
}

/** What a host can be asked for: a list of arguments and a result each. JSON, a line each way. */
export interface ControlCommands {
  createDomain: (config: RemoteDomainConfig) => { readonly domid: Domid };
  destroyDomain: (domid: Domid) => null;
  shutdown: (domid: Domid, reason: ShutdownReason) => null;
  domains: () => readonly DomainSummary[];
  attachDisk: (domid: Domid, disk: XlDisk) => AttachedDisk;
  detachDisk: (domid: Domid, vdev: string, options: { readonly force?: boolean | undefined }) => null;
}

export type ControlCommand = keyof ControlCommands;

/** A line to the host. */
export interface ControlRequest {
  readonly id: number;
  readonly command: ControlCommand;
  readonly arguments: readonly unknown[];
}

/** A line from the host. */
export type ControlAnswer =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: { readonly code: string; readonly op: string; readonly message: string } };
