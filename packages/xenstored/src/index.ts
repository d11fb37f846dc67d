export { DEFAULT_XENSTORED_QUOTAS, type XenstoredQuotas } from './connection/quota.js';
export type { RingPage } from './ports/ring-page.js';
export type { RingServer } from './ports/ring-server.js';
export { RingTransport, type RingTransportOptions } from './ports/ring-transport.js';
export { EmulatedXenstored, type EmulatedXenstoredOptions } from './xenstored.js';
