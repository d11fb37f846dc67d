export type { XenstoredInterceptor } from './interceptors.js';
export type { Schedule } from './ports/in-process.js';
export type { RingPage } from './ports/ring-page.js';
export type { AttachedRing } from './ports/ring-port.js';
export { RingTransport, type RingTransportOptions } from './ports/ring-transport.js';
export { DEFAULT_XENSTORED_QUOTAS, type XenstoredQuotas } from './tree/quotas.js';
export type { EventInterceptor, OutgoingEvent } from './watches/events.js';
export { EmulatedXenstored, type EmulatedXenstoredOptions } from './xenstored.js';
