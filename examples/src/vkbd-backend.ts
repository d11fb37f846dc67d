/**
 * A PV keyboard and pointer backend: each is a Unix socket that takes lines: `key CODE 1`, `key CODE 0` (Linux's codes),
 * `move X Y`, `at X Y`. With a folder as its argument it serves this machine's guests, else an embedded host's.
 */
import { EventEmitter, once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setImmediate } from 'node:timers/promises';
import { EmulatedHost } from '@xenpv/emulator';
import { EventRing, KEYBOARD_PAGE } from '@xenpv/ring';
import { nativeProvider, type XenProvider } from '@xenpv/xen-sys';
import type { BackendContext, LinkChannel, PvConnection, PvDevice } from '@xenpv/xenbus';
import { attachDevice, FrontendDevice, removeDevice, servePv } from '@xenpv/xenbus';
import { treeSchema, XenstoreClient } from '@xenpv/xenstore';

const KEYS = treeSchema({
  'page-gref': { type: 'gref' },
  'event-channel': { type: 'port' },
  'request-abs-pointer': { type: 'uint', default: 0 },
});
/** The types of events, xen/io/kbdif.h: a byte. Numbers of an event begin behind it, at the next word. */
const Type = { move: 1, key: 3, at: 4 } as const;

/** What a line says, as an event. Errors: of what it does not say rightly. */
function eventOf(line: string, takesPositions: boolean): Uint8Array {
  const [word = '', ...parts] = line.trim().split(/ +/);
  const [first = Number.NaN, second = Number.NaN] = parts.map(Number);
  const isKnown = Object.hasOwn(Type, word) && parts.length === 2 && first === (first | 0) && second === (second | 0);
  if (!isKnown) throw new Error(`"${line}": key, move or at, and two numbers, as in: key 30 1`);
  if (word === 'at' && !takesPositions) throw new Error(`"${line}": this guest takes no positions; use move`);
  const pressed = word === 'key' && second !== 0 ? 0x100 : 0;
  const words = Int32Array.of(Type[word as keyof typeof Type] | pressed, first, word === 'key' ? 0 : second);
  return new Uint8Array(words.buffer);
}

class KeyboardDevice implements PvDevice<typeof KEYS> {
  readonly #path: string;
  readonly #ended = new AbortController();
  readonly #server = createServer({ allowHalfOpen: true }, (client) => {
    pipeline(client.setEncoding('utf8'), (chunks) => this.#answers(chunks), client, this.#ended).catch(() => {});
  });
  readonly #moved = new EventEmitter().setMaxListeners(0);
  #line: { ring: EventRing; channel: LinkChannel; takesPositions: boolean } | undefined;

  constructor(context: BackendContext, folder: string) {
    this.#path = join(folder, context.name);
  }

  async prepare() {
    await rm(this.#path, { force: true });
    await once(this.#server.listen(this.#path), 'listening');
    return { 'feature-abs-pointer': 1 };
  }

  /** The indices are in the page: whoever adopts it goes on behind the events that the guest has not taken yet. */
  connect({ keys, link }: PvConnection<typeof KEYS>) {
    const ring = new EventRing(link.map(keys['page-gref'], { writable: true }), KEYBOARD_PAGE.input);
    const channel = link.bind(keys['event-channel'], () => {
      if (ring.queued < 0) throw new Error('the indices of the page are impossible');
      this.#moved.emit('room');
    });
    this.#line = { ring, channel, takesPositions: keys['request-abs-pointer'] === 1 };
  }

  disconnect() {
    this.#line = undefined;
  }

  async close() {
    this.#ended.abort();
    if (this.#server.listening) await once(this.#server.close(), 'close');
  }

  /** Takes lines as fast as the guest takes their events, and the client its answers: a client that is faster waits. */
  async *#answers(chunks: AsyncIterable<string>) {
    let text = '';
    for await (const chunk of chunks) {
      const lines = `${text}${chunk}`.split('\n');
      text = lines.pop() ?? '';
      if (text.length > 100) throw new Error('a line without an end');
      for (const line of lines) yield `${await this.#put(line).catch((error: Error) => error.message)}\n`;
    }
  }

  async #put(line: string) {
    const event = eventOf(line, this.#line?.takesPositions ?? false);
    while (!this.#line?.ring.put(event)) await once(this.#moved, 'room', this.#ended);
    this.#line.channel.notify();
    return 'ok';
  }
}

async function serve(provider: XenProvider, store: XenstoreClient, folder: string) {
  const device = (context: BackendContext) => new KeyboardDevice(context, folder);
  return servePv({ provider, store, type: 'vkbd', keys: KEYS, device });
}

if (process.argv[2] !== undefined) {
  const store = await XenstoreClient.connect({ reconnect: true });
  const server = await serve(nativeProvider(), store, process.argv[2]);
  await Promise.race([server.closed, once(process, 'SIGTERM'), once(process, 'SIGINT')]);
  await Promise.all([server.close(), store.close()]);
  process.exit();
}

// The other end: a guest whose frontend does as Linux's xen-kbdfront does, and a person who types.
const host = await EmulatedHost.create();
const guest = await host.createDomain({ name: 'guest' });
const folder = await mkdtemp(join(tmpdir(), 'keyboards-'));
const store = XenstoreClient.open(await host.provider(0).connectXenstore());
const guestStore = XenstoreClient.open(await guest.provider.connectXenstore());
const attached = await attachDevice(store, guest.domid, { type: 'vkbd' });
const first = await serve(host.provider(0), store, folder);
const taken: string[] = [];
const kbdfront = await FrontendDevice.connect({
  ...{ provider: guest.provider, store: guestStore, type: 'vkbd', devid: 0 },
  publish: ({ link }) => {
    const { refs, bytes } = link.grant();
    const ring = new EventRing(bytes, KEYBOARD_PAGE.input);
    const event = Buffer.alloc(ring.eventBytes);
    const channel = link.bind(() => {
      while (ring.take(event)) taken.push([0, 4, 8].map((at) => event.readInt32LE(at)).join(' '));
      channel.notify();
    });
    return { keys: { 'page-gref': refs[0], 'event-channel': channel.port, 'request-abs-pointer': 1 }, shared: 0 };
  },
});
async function type(...lines: string[]) {
  const socket = connect(join(folder, `vkbd-${guest.domid}-0`)).setEncoding('utf8');
  socket.end(`${lines.join('\n')}\n`);
  const answers = (await socket.toArray()).join('').trim().split('\n');
  while (taken.length < answers.filter((answer) => answer === 'ok').length) await setImmediate();
  console.log(`${answers.at(-1)}; ${taken.length} events, the last ${taken.splice(0).at(-1)}`);
}
await type('key 30 1', 'key 30 0', 'at 100 -200', 'jump');
await type(...Array.from({ length: 200 }, (_, index) => `move ${index} 0`)); // the page has room for 51
await first.close();
const second = await serve(host.provider(0), store, folder);
await second.settled();
await type('key 31 1');
await kbdfront.reconnect();
await type('key 32 1');
await kbdfront.close();
await removeDevice(store, attached);
await second.close();
await Promise.all([guestStore.close(), store.close(), rm(folder, { recursive: true })]);
await host.close();
