export type { RingPage } from './ports/ring-page.js';
export type { AttachedRing } from './ports/ring-port.js';
export { RingTransport, type RingTransportOptions } from './ports/ring-transport.js';
export { DEFAULT_XENSTORED_QUOTAS, type XenstoredQuotas } from './tree/quotas.js';
export { EmulatedXenstored, type EmulatedXenstoredOptions } from './xenstored.js';
