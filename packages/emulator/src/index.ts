export { EmulatedDomain } from './domain.js';
export { ToolstackError, type ToolstackErrorCode } from './errors.js';
export { EmulatedEventChannels } from './handles/event-channels.js';
export { type DomainConfig, EmulatedHost, type EmulatedHostOptions } from './host.js';
export type { DomainUsage } from './machine/machine.js';
export { attachProvider, EmulatedProvider } from './provider.js';
export type { BackendType, DiskConfig, DiskPaths } from './toolstack/disk-nodes.js';
export { type AttachedDisk, type DetachOptions, Toolstack, XL_TIMEOUT_MS } from './toolstack/toolstack.js';
