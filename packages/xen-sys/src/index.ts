export { onAbort, unlessAborted, untilAborted } from './abort.js';
export { loadNativeBuild } from './addon/native-build.js';
export { Errno } from './errno.js';
export { type ErrnoName, XenSysError, type XenSysErrorCode, type XenSysErrorOptions } from './errors.js';
export type { EventChannels, EventListener, EventSleeper } from './event-channels.js';
export { attachProvider } from './faulty/attach.js';
export type { FaultCounts } from './faulty/faults.js';
export type {
  EventFault,
  FaultKinds,
  FaultOccasion,
  FaultOperation,
  FaultPlan,
  PlannedFault,
  Refusal,
  RequestFault,
} from './faulty/plan.js';
export { type FaultyProvider, faultyProvider } from './faulty/provider.js';
export type { ForeignMapping, ForeignMemory } from './foreign-memory.js';
export type { GrantAllocator, GrantedPages } from './grant-allocator.js';
export {
  copyFlags,
  copyLength,
  GRANT_COPY_SEGMENT_BYTES,
  GrantCopyBatch,
  GrantCopyFlag,
  GrantCopyWord,
  GrantStatus,
  grantDomid,
  grantOffset,
  grantRef,
  localHigh,
  localLow,
  setCopyStatus,
} from './grant-copy.js';
export { type GrantMapping, type GrantTable, pageView, XEN_PAGE_SIZE } from './grant-table.js';
export { type NativeProviderOptions, nativeProvider, requireNativeAddon } from './native/provider.js';
export {
  DOMID_FIRST_RESERVED,
  DOMID_SELF,
  type Domid,
  type EvtchnPort,
  type Gref,
  parseDomid,
  parseEvtchnPort,
  parseGref,
} from './numbers.js';
export { packageFolder } from './package-root.js';
export { forbidCoreDumps } from './posix/core-dumps.js';
export { sendDatagram } from './posix/datagram.js';
export { Fifo } from './posix/fifo.js';
export { type FileLock, lockFile } from './posix/file-lock.js';
export { futexWait, futexWake } from './posix/futex.js';
export { sdNotify } from './posix/sd-notify.js';
export { mapSharedFile, mapSparseFile, type SharedFile } from './posix/shared-file.js';
export { nameThread } from './posix/thread-name.js';
export { type ListenOptions, listenOnUnixSocket, prepareSocketPath } from './posix/unix-socket.js';
export type { ProviderFeatures, SharedProvider, XenProvider } from './provider.js';
export type { XenstoreTransport, XenstoreTransportListener } from './xenstore-transport.js';
