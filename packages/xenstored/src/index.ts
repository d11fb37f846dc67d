export { DEFAULT_XENSTORED_QUOTAS, type XenstoredQuotas } from './connection/quota.js';
export { type RingPage, type RingServer, RingTransport, type RingTransportOptions } from './ports/ring.js';
export { EmulatedXenstored, type EmulatedXenstoredOptions } from './xenstored.js';
