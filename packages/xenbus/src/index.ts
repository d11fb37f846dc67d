export { BackendDevice, type BackendDeviceOptions, type HandlerFactory } from './backend-device.js';
export { BackendBus, type BackendBusOptions } from './bus.js';
export type {
  BusScanEvent,
  DeviceErrorEvent,
  DeviceEvent,
  DeviceHeldEvent,
  DeviceOnlineEvent,
  DeviceOrphanedEvent,
  DeviceStateEvent,
  FrontendStateEvent,
  HoldEndedEvent,
} from './diagnostics.js';
export { errorNodePath } from './error-nodes/error-node.js';
export { errorCode, errorMessage, printable, XenbusError, type XenbusErrorCode } from './errors.js';
export {
  FrontendDevice,
  type FrontendOffer,
  type FrontendOptions,
  type FrontendPublication,
} from './frontend/frontend-device.js';
export type { FrontendLink, LentPages } from './frontend/frontend-link.js';
export { type FrontendAddress, FrontendHandshake } from './frontend/handshake.js';
export { GUEST_PACES, type GuestAccount, type GuestCounters, type GuestPaces } from './guests/guest-account.js';
export type { Pace, TokenBucket } from './guests/token-bucket.js';
export type {
  BackendContext,
  BackendHandler,
  CallOptions,
  KeyTexts,
  PublishedKeys,
  XenstoreValues,
} from './handler/handler.js';
export { type DomainProbe, type GoneDeviceOptions, isDeviceGone } from './holding/gone-device.js';
export type { HeldDevice } from './holding/held-device.js';
export type { LinkChannel } from './link/channel.js';
export { readOwnDomid } from './own-domid.js';
export { backendPath, type DeviceAddress, deviceName, domainPath, parseBackendPath } from './paths.js';
export { type DeviceAction, type DeviceView, nextAction } from './reducer.js';
export type { Link } from './scaffold/link.js';
export type { PvConnection, PvDevice, PvPreparation } from './scaffold/pv-device.js';
export type { PvHandler } from './scaffold/pv-handler.js';
export type { PvServer } from './scaffold/pv-server.js';
export { type ServePvOptions, servePv } from './scaffold/serve-pv.js';
export { parseState, stateField, stateName, XenbusState } from './states.js';
export { attachDevice, type DeviceDescription, type ListedDevice, listDevices } from './toolstack/attach.js';
export {
  type BothHalves,
  createDevice,
  deleteDevice,
  frontendPath,
  libxlPath,
  type NewDevice,
  removeDevice,
  unplugDevice,
  writeDevice,
  writeLibxlDevice,
} from './toolstack/halves.js';
export { Backoff, type BackoffOptions } from './waiting/backoff.js';
export type { Turn } from './waiting/takeovers.js';
export { isXenstoreTrouble } from './waiting/xenstore-trouble.js';
