export { openRawImage, XenBlockBackend, type XenBlockBackendOptions } from './backend.js';
export type {
  BlockDeviceEvent,
  DeviceConnectedEvent,
  DeviceMediumEvent,
  DevicePreparedEvent,
  DeviceResizedEvent,
  JournalFailedEvent,
  RequestRefusedEvent,
} from './diagnostics.js';
export { type DiskConfig, parseParams, readDiskConfig } from './disk/config.js';
export {
  BlockDevice,
  type BlockDeviceOptions,
  type ImageOpener,
  type SectorSizePolicy,
  type TransferPolicy,
} from './disk/disk.js';
export { firstFreeVdev } from './disk/free-vdev.js';
export { type Negotiated, type NegotiatedRing, type NegotiationLimits, readNegotiated } from './disk/negotiation.js';
export type { ProtocolLimits } from './disk/published-keys.js';
export { XenBlockError } from './errors.js';
export { LocalRingHost, type RingHost } from './hosts/ring-host.js';
export { WorkerRingHost } from './hosts/worker-host.js';
export {
  ACCOUNTING_CLASSES,
  type ClassStatistics,
  type DiskStatistics,
  LATENCY_BUCKETS,
  LATENCY_PHASES,
  type LatencyPhase,
  RingCounters,
  readStatistics,
} from './plane/counters.js';
export { DataPlane, type DataPlaneOptions, type ServedRing } from './plane/data-plane.js';
export { BadRequest, badRequestText } from './plane/requests/bad-request.js';
export type { DiskGeometry } from './plane/requests/check.js';
export type { RequestEvent } from './plane/requests/trace.js';
export type { RingListener, RingOptions, Transfer } from './plane/ring.js';
