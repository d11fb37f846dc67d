import type { Domid, EventChannels, EvtchnPort } from '@xenpv/xen-sys';
import { Channel, type ChannelCalls } from './channel.js';

/**
 * One handle on the event channels for any number of devices: a port that fired is told to the one whose port it is.
 *
 * A listener that throws ends its own channel, and its owner is told; the other ports of the same delivery are served
 * as ever.
 */
export class EventRouter implements Disposable {
  readonly #events: EventChannels;
  readonly #channels = new Map<number, Channel>();
  /** Ports of a delivery that are to be unmasked. */
  #served = new Uint32Array(64);
  readonly #one = new Uint32Array(1);

  /** Takes the handle: it is closed with the router. */
  constructor(events: EventChannels) {
    this.#events = events;
    events.listen((ports, count) => this.#deliver(ports, count));
  }

  /** Binds to a port that domain `domid` left for us. Errors: those of {@link EventChannels.bindInterdomain}. */
  bindInterdomain(domid: Domid, remotePort: EvtchnPort, calls: ChannelCalls): Channel {
    return this.#add(this.#events.bindInterdomain(domid, remotePort), calls);
  }

  /** Makes a port for domain `domid`. Errors: those of {@link EventChannels.bindUnbound}. */
  bindUnbound(domid: Domid, calls: ChannelCalls): Channel {
    return this.#add(this.#events.bindUnbound(domid), calls);
  }

  /** Ends a channel and its port. Harmless when repeated. */
  unbind(channel: Channel): void {
    channel.shut();
    if (this.#channels.get(channel.port) !== channel) return;
    this.#channels.delete(channel.port);
    this.#events.unbind(channel.port);
  }

  /** Unbinds every port and closes the handle. Harmless when repeated. */
  [Symbol.dispose](): void {
    for (const channel of this.#channels.values()) channel.shut();
    this.#channels.clear();
    this.#events.close();
  }

  #add(port: EvtchnPort, calls: ChannelCalls): Channel {
    const channel: Channel = new Channel(port, calls, {
      notify: () => this.#has(channel) && this.#events.notify(port) === 0,
      unmask: () => this.#unmask(channel),
    });
    this.#channels.set(port, channel);
    return channel;
  }

  #has(channel: Channel): boolean {
    return this.#channels.get(channel.port) === channel;
  }

  #unmask(channel: Channel): void {
    if (!this.#has(channel)) return;
    this.#one[0] = channel.port;
    this.#events.unmask(this.#one, 1);
  }

  #deliver(ports: Uint32Array, count: number): void {
    if (this.#served.length < count) this.#served = new Uint32Array(count * 2);
    let served = 0;
    for (let i = 0; i < count; i++) if (this.#channels.get(ports[i])?.fire()) this.#served[served++] = ports[i];
    // One call for all of them. A port that a listener has unbound since would fail it for the others.
    let open = 0;
    for (let i = 0; i < served; i++) if (this.#channels.has(this.#served[i])) this.#served[open++] = this.#served[i];
    if (open > 0) this.#events.unmask(this.#served, open);
  }
}
