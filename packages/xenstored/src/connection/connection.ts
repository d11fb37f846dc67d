import { allocateMessage, XS_HEADER_BYTES, XS_MAX_PAYLOAD, type XsMessage, XsOp } from '@xenpv/xenstore';
import type { Requester } from '../tree/permissions.js';
import type { ServerTransaction } from '../tree/transaction.js';
import type { EventCause, Watch, Watcher } from '../watches/watches.js';
import type { DomainRecord } from './domains.js';
import type { Port } from './port.js';

/** A message that waits to be taken by the client. */
interface Outgoing {
  readonly bytes: Buffer;
  /** Of an event: what no other event that waits is equal in. */
  readonly eventKey: string | undefined;
  /** Whose quota of outstanding messages this counts for. */
  readonly charged: EventCause | undefined;
}

/** The daemon's end of one connection: what waits in either direction, its watches and transactions. */
export class ServerConnection implements Watcher {
  readonly domain: DomainRecord;
  readonly port: Port;
  /** What relative paths are relative to. */
  readonly home: string;
  readonly transactions = new Map<number, ServerTransaction>();
  /** By {@link watchKey}. */
  readonly watches = new Map<string, Watch>();
  nextTransactionId = 0;
  readonly #input: XsMessage[] = [];
  #inputAt = 0;
  readonly #output: Outgoing[] = [];
  #outputAt = 0;
  #outputBytes = 0;
  readonly #waitingEvents = new Set<string>();
  #closed = false;

  constructor(domain: DomainRecord, port: Port) {
    this.domain = domain;
    this.home = `/local/domain/${domain.domid}`;
    this.port = port;
  }

  get requester(): Requester {
    return this.domain;
  }

  watchAdded(watch: Watch): void {
    this.watches.set(watchKey(watch.path, watch.token), watch);
    this.domain.watches++;
  }

  watchRemoved(watch: Watch): void {
    this.watches.delete(watchKey(watch.path, watch.token));
    this.domain.watches--;
  }

  /** The watch that this connection registered with this path and token, or undefined. */
  watch(path: string, token: string): Watch | undefined {
    return this.watches.get(watchKey(path, token));
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Whether all requests that were received are carried out. */
  get idle(): boolean {
    return this.#inputAt >= this.#input.length;
  }

  /** Whether a request waits and may be answered now. */
  get ready(): boolean {
    return !this.idle && !this.domain.congested;
  }

  receive(messages: readonly XsMessage[]): void {
    if (!this.#closed) for (const message of messages) this.#input.push(message);
  }

  nextRequest(): XsMessage | undefined {
    const message = this.#input[this.#inputAt++];
    if (this.#inputAt >= this.#input.length) {
      this.#input.length = 0;
      this.#inputAt = 0;
    }
    return message;
  }

  /** Answers a request. A payload over the protocol's limit becomes E2BIG. */
  reply(request: XsMessage, payload: string | Uint8Array): void {
    if (payload.length > XS_MAX_PAYLOAD) this.replyError(request, 'E2BIG');
    else this.#send(request, request.type, payload);
  }

  replyError(request: XsMessage, error: string): void {
    this.#send(request, XsOp.error, `${error}\0`);
  }

  #send(request: XsMessage, type: number, payload: string | Uint8Array): void {
    if (this.#closed) return;
    const bytes = allocateMessage(type, request.requestId, request.transactionId, payload.length);
    if (typeof payload === 'string') bytes.write(payload, XS_HEADER_BYTES, 'latin1');
    else bytes.set(payload, XS_HEADER_BYTES);
    this.#queue({ bytes, eventKey: undefined, charged: this.domain });
  }

  sendEvent(path: string, token: string, cause?: EventCause): void {
    const payload = `${path}\0${token}\0`;
    if (this.#closed || payload.length > XS_MAX_PAYLOAD) return;
    const eventKey = path[0] === '@' ? undefined : payload;
    if (eventKey !== undefined && this.#waitingEvents.has(eventKey)) return;
    if (this.#outputBytes + payload.length > this.domain.quotas.outputBytes) return;
    const bytes = allocateMessage(XsOp.watchEvent, 0, 0, payload.length);
    bytes.write(payload, XS_HEADER_BYTES, 'latin1');
    if (eventKey !== undefined) this.#waitingEvents.add(eventKey);
    this.#queue({ bytes, eventKey, charged: cause });
  }

  #queue(outgoing: Outgoing): void {
    outgoing.charged?.charge();
    this.#outputBytes += outgoing.bytes.length;
    this.#output.push(outgoing);
    if (this.#output.length === 1) this.port.outputReady();
  }

  /** The next message that waits, which counts as taken now, or undefined. */
  take(): Buffer | undefined {
    const outgoing = this.#output[this.#outputAt];
    if (outgoing === undefined) return undefined;
    this.#outputAt++;
    if (this.#outputAt === this.#output.length) {
      this.#output.length = 0;
      this.#outputAt = 0;
    }
    this.#outputBytes -= outgoing.bytes.length;
    if (outgoing.eventKey !== undefined) this.#waitingEvents.delete(outgoing.eventKey);
    outgoing.charged?.discharge();
    return outgoing.bytes;
  }

  /** The client did what the protocol does not allow, or the daemon ends the connection. */
  fail(reason: string): void {
    if (!this.#closed) this.port.failed(reason);
  }

  /** Forgets everything that waits. Watches and transactions are the daemon's to end. */
  close(): void {
    this.#closed = true;
    while (this.take() !== undefined);
    this.#input.length = 0;
    this.#inputAt = 0;
  }
}

/** What a watch is known by on its connection. */
function watchKey(path: string, token: string): string {
  return `${path}\0${token}`;
}
