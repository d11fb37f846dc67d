import type { BlockDeviceEvent, DevicePreparedEvent, StorageErrorEvent } from '@xenpv/xen-block';
import {
  type DeviceEvent,
  type DeviceStateEvent,
  deviceName,
  type FrontendStateEvent,
  XenbusState,
} from '@xenpv/xenbus';
import type { LimitedLine } from '../../log/limited-log.js';
import type { DiskErrors } from '../../status/disks/disk-errors.js';
import { lineText } from '../../status/line-text.js';
import { subscriptions } from './subscriptions.js';

const DEVICE_ERROR = 'xenbus:device:error';
/** Errors of requests are told by themselves, and what they lead to is a state. */
const OF_REQUESTS: readonly string[] = ['xen-block:storage:error', 'xen-block:device:stopped'];

const S = XenbusState;
/** The device goes on, or begins anew. */
const GOING_ON: readonly XenbusState[] = [S.initWait, S.connected];
/** A frontend that ends its device, or is gone. */
const ENDING: readonly XenbusState[] = [S.unknown, S.closing, S.closed];

interface Kept {
  errors: DiskErrors;
  /** Told since the device went on last: it may be what the device is refused for. */
  untried: DiskErrors['refused'];
  isOpen: boolean;
  /** This process has opened it, or written its state. */
  isTried: boolean;
  frontend: XenbusState | undefined;
}

/**
 * The last errors of each disk that is there, from what is told to the log, and why it is refused to its guest. Of each
 * disk so much, however many errors somebody causes.
 */
export class DiskErrorsKept implements Disposable {
  readonly #disks = new Map<string, Kept>();
  readonly #subscriptions = subscriptions({
    'xenbus:device:added': ({ address }: DeviceEvent) =>
      void this.#disks.set(deviceName(address), {
        errors: {},
        untried: undefined,
        isOpen: false,
        isTried: false,
        frontend: undefined,
      }),
    'xenbus:device:removed': ({ address }: DeviceEvent) => void this.#disks.delete(deviceName(address)),
    'xenbus:device:frontend': ({ address, state }: FrontendStateEvent) => this.#change(address, { frontend: state }),
    'xenbus:device:state': ({ address, from, to }: DeviceStateEvent) => {
      this.#change(address, { isTried: true });
      if (GOING_ON.includes(to)) this.#goesOn(address);
      else if (to === S.closing) this.#closes(address, from);
    },
    'xen-block:device:prepared': ({ address }: DevicePreparedEvent) => {
      this.#change(address, { isOpen: true, isTried: true });
      this.#goesOn(address);
    },
    'xen-block:device:closed': ({ address }: BlockDeviceEvent) => this.#change(address, { isOpen: false }),
    'xen-block:storage:error': ({ address, operation, errno, offset, length }: StorageErrorEvent) =>
      this.#note(address, { lastStorageError: { at: now(), operation, errno, offset, length } }),
  });

  of(device: string): DiskErrors {
    return this.#disks.get(device)?.errors ?? {};
  }

  /** An earlier process has refused the disk, and said why in its error node: `CODE message`. Since when is not known. */
  left(address: DeviceEvent['address'], told: string): void {
    if (this.#disks.get(deviceName(address))?.isTried) return;
    const [, code = '', message = told] = /^([A-Z][A-Z0-9_]*) (.*)$/s.exec(told) ?? [];
    this.#note(address, { refused: { since: now(), code, reason: lineText({ level: 'error', message }) } });
  }

  /** What is told to the log, whether it is written or not. */
  logged(kind: string, device: string | undefined, line: LimitedLine): void {
    const kept = device === undefined ? undefined : this.#disks.get(device);
    if (!kept || line.level !== 'error' || OF_REQUESTS.includes(kind)) return;
    const { lastError } = kept.errors;
    const message = lineText(line);
    const isSame = lastError?.kind === kind && lastError.message === message;
    const count = isSame ? lastError.count + 1 : 1;
    kept.errors = { ...kept.errors, lastError: { at: now(), kind, message, count } };
    if (kind === DEVICE_ERROR) kept.untried = { since: now(), code: String(line.fields?.code), reason: message };
  }

  [Symbol.dispose](): void {
    this.#subscriptions[Symbol.dispose]();
  }

  #goesOn(address: DeviceEvent['address']): void {
    this.#change(address, { untried: undefined });
    this.#note(address, { refused: undefined });
  }

  /** By the error that was told before, unless the guest itself ends what it was offered. */
  #closes(address: DeviceEvent['address'], from: XenbusState | undefined): void {
    const kept = this.#disks.get(deviceName(address));
    if (!kept) return;
    // One that is held has nothing open.
    const isOffered = kept.isOpen || from === S.connected;
    const guestEnds = isOffered && kept.frontend !== undefined && ENDING.includes(kept.frontend);
    if (!guestEnds) this.#note(address, { refused: kept.untried });
  }

  #note(address: DeviceEvent['address'], noted: DiskErrors): void {
    const errors = this.#disks.get(deviceName(address))?.errors;
    if (errors) this.#change(address, { errors: { ...errors, ...noted } });
  }

  #change(address: DeviceEvent['address'], changed: Partial<Kept>): void {
    const kept = this.#disks.get(deviceName(address));
    if (kept) Object.assign(kept, changed);
  }
}

const now = () => new Date().toISOString();
