export { XenSysError, type XenSysErrorCode } from './errors.js';
export type { EventChannels, EventListener } from './event-channels.js';
export type { ForeignMapping, ForeignMemory } from './foreign-memory.js';
export type { GrantAllocator, GrantedPages } from './grant-allocator.js';
export { GRANT_COPY_SEGMENT_BYTES, GrantCopyBatch, GrantStatus } from './grant-copy.js';
export { type GrantMapping, type GrantTable, XEN_PAGE_SIZE } from './grant-table.js';
export type { ProviderFeatures, SharedProvider, XenProvider } from './provider.js';
export type { XenstoreTransport, XenstoreTransportListener } from './xenstore-transport.js';
