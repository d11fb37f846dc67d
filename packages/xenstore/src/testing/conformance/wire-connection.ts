import type { XenstoreTransport } from '@xenpv/xen-sys';
import { encodeMessage, encodeStrings, MessageDecoder, type XsMessage, XsOp } from '../../wire/wire.js';

const MAX_REPLY_BYTES = 1024 * 1024;
/** oxenstored never answers some malformed requests. */
const SILENCE_MS = 3000;

/**
 * A connection that hides nothing: what it asks is sent as it is, and every reply is told as text. `ENOENT` is an
 * error, `OK` a bare confirmation; any other payload has its NULs shown as `|`. A connection that ended answers
 * `closed`, one that says nothing for seconds `no answer`.
 */
export class WireConnection {
  readonly #transport: XenstoreTransport;
  readonly #decoder = new MessageDecoder(MAX_REPLY_BYTES);
  readonly #waiting = new Map<number, (reply: string) => void>();
  #log: string[] = [];
  #nextId = 0;
  #closed = false;

  constructor(transport: XenstoreTransport) {
    this.#transport = transport;
    transport.start({
      data: (chunk) => {
        for (const message of this.#decoder.push(chunk)) this.#receive(message);
      },
      close: () => this.#end(),
    });
  }

  /** Sends strings, a NUL after each, or the bytes given; resolves with the reply as text. */
  ask(type: number, payload: readonly string[] | Uint8Array, transaction = 0): Promise<string> {
    if (this.#closed) return Promise.resolve('closed');
    const id = ++this.#nextId;
    const bytes = payload instanceof Uint8Array ? payload : encodeStrings(...payload);
    return new Promise((resolve) => {
      const silence = setTimeout(resolve, SILENCE_MS, 'no answer');
      this.#waiting.set(id, (reply) => {
        clearTimeout(silence);
        resolve(reply);
      });
      this.#transport.send(encodeMessage(type, id, transaction, bytes));
    });
  }

  /** Asks for a value. */
  read = (path: string, transaction?: number) => this.ask(XsOp.read, [path], transaction);
  /** Asks for the names of a node's children. */
  list = (path: string, transaction?: number) => this.ask(XsOp.directory, [path], transaction);
  /** Asks for an empty node. */
  mkdir = (path: string, transaction?: number) => this.ask(XsOp.mkdir, [path], transaction);
  /** Asks that a node goes, with all below it. */
  remove = (path: string, transaction?: number) => this.ask(XsOp.remove, [path], transaction);
  /** Asks who may read and write a node. */
  permissions = (path: string, transaction?: number) => this.ask(XsOp.getPermissions, [path], transaction);
  /** Asks for events of a node and all below it. */
  watch = (path: string, token: string) => this.ask(XsOp.watch, [path, token]);
  /** Asks for an end of those. */
  unwatch = (path: string, token: string) => this.ask(XsOp.unwatch, [path, token]);

  /** Asks that a value is written. */
  write(path: string, value: string | Uint8Array, transaction?: number): Promise<string> {
    return this.ask(XsOp.write, Buffer.concat([encodeStrings(path), Buffer.from(value)]), transaction);
  }

  /** Asks for other permissions, as xenstored writes them: `n0`, `r1`. */
  permit(path: string, ...permissions: string[]): Promise<string> {
    return this.ask(XsOp.setPermissions, [path, ...permissions]);
  }

  /** Begins a transaction; its number. */
  async begin(): Promise<number> {
    return Number.parseInt(await this.ask(XsOp.transactionStart, ['']), 10);
  }

  /** Asks for a transaction's end: `T` commits it, `F` does not. */
  end(transaction: number, verdict: 'T' | 'F' | string): Promise<string> {
    return this.ask(XsOp.transactionEnd, [verdict], transaction);
  }

  /**
   * The watch events since the last call, `path|token`, when all that were caused before have come: daemons send them
   * before they answer a later request.
   */
  async events(): Promise<string[]> {
    return (await this.log()).filter((line) => line.startsWith('event ')).map((line) => line.slice(6));
  }

  /** What came since the last call, in its order: `event path|token`, `reply ...`. */
  async log(): Promise<string[]> {
    await this.ask(XsOp.getDomainPath, ['0']);
    const before = this.#log.slice(0, -1);
    await this.ask(XsOp.getDomainPath, ['0']);
    const after = this.#log.slice(before.length + 1, -1);
    this.#log = [];
    return [...before, ...after];
  }

  /** Ends it; what is not answered yet is answered `closed`. */
  async close(): Promise<void> {
    await this.#transport.close();
    this.#end();
  }

  #receive(message: XsMessage): void {
    const text = tell(message);
    if (message.type === XsOp.watchEvent) {
      const zero = message.requestId === 0 && message.transactionId === 0;
      this.#log.push(`event ${text.slice(0, -1)}${zero ? '' : ' (with ids)'}`);
      return;
    }
    this.#log.push(`reply ${text}`);
    const settle = this.#waiting.get(message.requestId);
    this.#waiting.delete(message.requestId);
    settle?.(text);
  }

  #end(): void {
    this.#closed = true;
    for (const settle of this.#waiting.values()) settle('closed');
    this.#waiting.clear();
  }
}

function tell(message: XsMessage): string {
  const text = Buffer.from(message.payload).toString('latin1').replaceAll('\0', '|');
  if (message.type === XsOp.error || text === 'OK|') return text.slice(0, -1);
  return text;
}
