export { EmulatedXenstored, type EmulatedXenstoredOptions } from './xenstored.js';
export { DEFAULT_XENSTORED_QUOTAS, type XenstoredQuotas } from './xenstored-quota.js';
export { type RingPage, type RingServer, RingTransport, type RingTransportOptions } from './xenstored-ring.js';
