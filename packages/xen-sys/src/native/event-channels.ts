import type { Descriptor } from '../addon/addon.js';
import { openDevice } from '../addon/device-file.js';
import { EvtchnIoctl } from '../addon/ioctl.js';
import { Errno } from '../errno.js';
import { errnoError, XenSysError } from '../errors.js';
import type { EventChannels, EventListener, EventSleeper } from '../event-channels.js';

/** What one read(2) or write(2) of /dev/xen/evtchn takes: a page of u32 port numbers. */
const PORTS_PER_CALL = 1024;

const MAX_EVENTFDS = 8;

/** Words of what a bound sleep goes by: native/bound-call.h. */
const SleepWord = { writeBytes: 0, eventfds: 1, first: 2, microseconds: 3 } as const;

class NativeSleeper implements EventSleeper {
  readonly unmask = new Uint32Array(PORTS_PER_CALL);
  readonly ports = new Uint32Array(PORTS_PER_CALL);
  readonly eventfds = new Int32Array(MAX_EVENTFDS);
  readonly #control = new Int32Array(Object.keys(SleepWord).length);
  readonly #sleep: () => number;

  constructor(device: Descriptor) {
    this.#sleep = device.bindSleep(this.#control, this.unmask, this.ports, this.eventfds);
  }

  sleep(unmaskCount: number, eventfdCount: number, first: boolean, microseconds: number): number {
    const control = this.#control;
    control[SleepWord.writeBytes] = unmaskCount * 4;
    control[SleepWord.eventfds] = eventfdCount;
    control[SleepWord.first] = first ? 1 : 0;
    control[SleepWord.microseconds] = microseconds;
    const bytes = this.#sleep();
    return bytes < 0 ? bytes : bytes >>> 2;
  }
}

/** /dev/xen/evtchn. */
export class NativeEventChannels implements EventChannels {
  readonly #path: string;
  readonly #device: Descriptor;
  readonly #ports = new Uint32Array(PORTS_PER_CALL);
  readonly #notified = new Uint32Array(1);
  readonly #notify: () => number;
  #keepAlive = true;

  constructor(directory: string) {
    this.#path = `${directory}/evtchn`;
    this.#device = openDevice(directory, 'evtchn');
    this.#notify = this.#device.bindIoctl(EvtchnIoctl.notify, this.#notified);
  }

  get fd(): number {
    return this.#device.fd;
  }

  bindInterdomain(domid: number, remotePort: number): number {
    const result = this.#device.ioctl(EvtchnIoctl.bindInterdomain, Uint32Array.of(domid, remotePort));
    return this.#check(result, 'bindInterdomain', `port ${remotePort} of domain ${domid}`);
  }

  bindUnbound(domid: number): number {
    const result = this.#device.ioctlWord(EvtchnIoctl.bindUnboundPort, domid);
    return this.#check(result, 'bindUnbound', `domain ${domid}`);
  }

  unbind(port: number): void {
    const result = this.#device.ioctlWord(EvtchnIoctl.unbind, port);
    this.#check(result === Errno.ENOTCONN ? Errno.EINVAL : result, 'unbind', `port ${port}`);
  }

  notify(port: number): number {
    this.#notified[0] = port;
    const result = this.#notify();
    // The kernel's word for a port that this handle has not bound.
    return result === Errno.ENOTCONN ? Errno.EINVAL : result;
  }

  pending(ports: Uint32Array): number {
    const bytes = this.#device.read(ports);
    return bytes < 0 ? bytes : bytes >>> 2;
  }

  unmask(ports: Uint32Array, count: number): number {
    let rest = ports;
    for (let left = count; left > PORTS_PER_CALL; left -= PORTS_PER_CALL) {
      const result = this.#device.write(rest, PORTS_PER_CALL * 4);
      if (result < 0) return result;
      rest = rest.subarray(PORTS_PER_CALL);
      count -= PORTS_PER_CALL;
    }
    const result = this.#device.write(rest, count * 4);
    return Math.min(result, 0);
  }

  openSleeper(): EventSleeper {
    return new NativeSleeper(this.#device);
  }

  listen(listener: EventListener | undefined): void {
    if (listener === undefined) {
      this.#device.listen();
      return;
    }
    const ports = this.#ports;
    const result = this.#device.listen(ports, (bytes) => {
      if (bytes > 0) listener(ports, bytes >>> 2);
      else if (bytes < 0) this.#fail(bytes);
    });
    this.#check(result, 'listen');
    this.#device.keepAlive(this.#keepAlive);
  }

  ref(): void {
    this.#keepAlive = true;
    this.#device.keepAlive(true);
  }

  unref(): void {
    this.#keepAlive = false;
    this.#device.keepAlive(false);
  }

  close(): void {
    this.#device.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /** A device that cannot be read any more would be reported as readable for ever. */
  #fail(result: number): never {
    this.#device.listen();
    throw errnoError(result, 'evtchn.listen', this.#path);
  }

  #check(result: number, op: string, about = ''): number {
    if (result >= 0) return result;
    if (this.#device.fd < 0) {
      throw new XenSysError('ERR_CLOSED', `evtchn.${op}`, `evtchn.${op}: closed`, { path: this.#path });
    }
    throw errnoError(result, `evtchn.${op}`, this.#path, about);
  }
}
