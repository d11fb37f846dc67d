export { type RingPage, type RingServer, RingTransport, type RingTransportOptions } from './ports/ring.js';
export { DEFAULT_XENSTORED_QUOTAS, type XenstoredQuotas } from './tree/quotas.js';
export { EmulatedXenstored, type EmulatedXenstoredOptions } from './xenstored.js';
