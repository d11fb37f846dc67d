export { attachProvider } from './attach.js';
export { type CallOptions, RemoteHost } from './control/client.js';
export type { DomainSummary, RemoteDomainConfig } from './control/commands.js';
export type { ControlledHost } from './control/server.js';
export type { DomainCallOptions, DomainConfig, EmulatedDomain, ShutdownReason } from './domain.js';
export { ToolstackError, type ToolstackErrorCode } from './errors.js';
export type { FaultTimes, HostFault } from './faults/host-fault.js';
export type { HostFaults } from './faults/host-faults.js';
export type { EventTarget, GrantTarget } from './faults/hypervisor-faults.js';
export type { Lateness } from './faults/late.js';
export type { WatchTarget } from './faults/xenstore-faults.js';
export type { GuestConsole } from './guest-console.js';
export type { EmulatedEventChannels } from './handles/event-channels.js';
export { EmulatedHost, type EmulatedHostOptions } from './host.js';
export { type JoinOptions, joinHost } from './join.js';
export type { MemoryMisuse } from './machine/free-frames.js';
export type { DomainUsage } from './machine/machine.js';
export type { EmulatedProvider } from './provider.js';
export { type FailingSeed, findFailingSeed } from './seed/find-failing-seed.js';
export { XL_TIMEOUT_MS } from './toolstack/backend-wait.js';
export type { XlDevice } from './toolstack/device-nodes.js';
export type { BackendType, XlDisk } from './toolstack/disk-config.js';
export type { DiskPaths } from './toolstack/disk-nodes.js';
export {
  type AttachedDevice,
  type AttachedDisk,
  type AttachOptions,
  type DetachOptions,
  Toolstack,
} from './toolstack/toolstack.js';
