export { openRawImage, XenBlockBackend, type XenBlockBackendOptions } from './backend.js';
export { BadRequest, badRequestText } from './bad-request.js';
export type { RingListener, RingOptions, Transfer } from './block-ring.js';
export {
  type ClassStatistics,
  type DiskStatistics,
  LATENCY_BUCKETS,
  LATENCY_PHASES,
  type LatencyPhase,
  RingCounters,
  readStatistics,
} from './counters.js';
export { DataPlane, type DataPlaneOptions, type ServedRing } from './data-plane.js';
export {
  BlockDevice,
  type BlockDeviceOptions,
  type ImageOpener,
  type SectorSizePolicy,
  type TransferPolicy,
} from './device.js';
export { type DiskConfig, parseParams, readDiskConfig } from './device-config.js';
export { XenBlockError } from './errors.js';
export type {
  BlockDeviceEvent,
  DeviceConnectedEvent,
  DeviceMediumEvent,
  DevicePreparedEvent,
  DeviceResizedEvent,
  JournalFailedEvent,
  RequestRefusedEvent,
} from './events.js';
export { firstFreeVdev } from './free-vdev.js';
export { type Negotiated, type NegotiatedRing, type NegotiationLimits, readNegotiated } from './negotiation.js';
export type { ProtocolLimits } from './published-keys.js';
export type { DiskGeometry } from './request-check.js';
export type { RequestEvent } from './request-trace.js';
export { LocalRingHost, type RingHost } from './ring-host.js';
export { WorkerRingHost } from './worker-ring-host.js';
