export { type ConfiguredLimits, XenBlockBackend } from './backend.js';
export type {
  BlockDeviceEvent,
  DeviceAbandonedEvent,
  DeviceConnectedEvent,
  DeviceIgnoredEvent,
  DeviceLeftEvent,
  DeviceLimitedEvent,
  DeviceMediumEvent,
  DevicePreparedEvent,
  DeviceResizedEvent,
  DeviceResumedEvent,
  DeviceStoppedEvent,
  ImageAwaitedEvent,
  ImageWaitEndedEvent,
  JournalDroppedEvent,
  JournalFailedEvent,
  JournalMadeEvent,
  PlaneFailedEvent,
  PlaneRestedEvent,
  RequestEvent,
  RequestGaveUpEvent,
  RequestRefusedEvent,
  RingOverlookedEvent,
  StorageErrorEvent,
  StorageRecoveredEvent,
  StorageStalledEvent,
} from './diagnostics.js';
export { IMAGE_FORMATS, imagePath, parseParams, readDiskConfig } from './disk/config.js';
export {
  BlockDevice,
  type BlockDeviceOptions,
  type ImageExchange,
  type ImageOpener,
  type ImageOpening,
  type NamedImage,
  type OnErrorChoice,
  type SectorSizePolicy,
  type TakeOverConsent,
} from './disk/disk.js';
export type { DataPathChoice } from './disk/disk-rings.js';
export { firstFreeVdev } from './disk/free-vdev.js';
export { diskName, imageUser } from './disk/image-user.js';
export { type Negotiated, type NegotiatedRing, type NegotiationLimits, readNegotiated } from './disk/negotiation.js';
export { openRawImage } from './disk/raw-image.js';
export type { KeptFailures } from './disk/stops/kept-failures.js';
export type { ProtocolLimits } from './disk/terms.js';
export type { DiskTrace, TraceBatch } from './disk/tracing.js';
export { type DiskConfig, type DiskGeometry, type DiskStop, ON_ERROR, type OnError } from './disk-description.js';
export { XenBlockError, type XenBlockErrorCode, type XenBlockOp } from './errors.js';
export { LocalRingHost, type RingHost, type RingHosts } from './hosts/ring-host.js';
export { WorkerRingHost } from './hosts/worker-host.js';
export type { Budget } from './limits/budget.js';
export type { DiskLimitsChoice, LimitsInForce } from './limits/disk-limits.js';
export type { GuestBudgets } from './limits/guest-budgets.js';
export type { DataPathPolicy, OfferedLimits, XenBlockBackendOptions } from './options.js';
export {
  ACCOUNTING_CLASSES,
  type AccountingClass,
  LATENCY_BUCKETS,
  LATENCY_PHASES,
  type LatencyPhase,
} from './plane/accounting/layout.js';
export { RingCounters } from './plane/accounting/ring-counters.js';
export { type ClassStatistics, type DiskStatistics, readStatistics } from './plane/accounting/statistics.js';
export {
  DataPlane,
  type DataPlaneOptions,
  type DetachedRing,
  type KeptRequests,
  type ServedRing,
} from './plane/data-plane.js';
export type { JournalOptions } from './plane/journal/adopt-ring.js';
export { BadRequest, badRequestText } from './plane/requests/bad-request.js';
export type {
  DataPath,
  GivenUpRequest,
  RingListener,
  RingOptions,
  StorageFailure,
} from './plane/rings/ring-options.js';
export { Point, RECORD_WORDS, RecordWord, TRACE_POINTS, type TracePoint } from './plane/trace/trace-buffer.js';
export { formatRateLimits, parseRateLimits, RATE_LIMITS_FORM, type RateLimits } from './rate-limits.js';
