/**
 * A PV console backend: each console is a Unix socket, `socat - UNIX-CONNECT:<folder>/console-5-1`. With a folder as its
 * argument it serves this machine's guests, but for console 0 of each, which is xenconsoled's; else an embedded host's.
 */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EmulatedHost } from '@xenpv/emulator';
import { ByteRing, CONSOLE_RING } from '@xenpv/ring';
import { nativeProvider, type XenProvider } from '@xenpv/xen-sys';
import type { BackendContext, LinkChannel, PvConnection, PvDevice } from '@xenpv/xenbus';
import { attachDevice, FrontendDevice, removeDevice, servePv } from '@xenpv/xenbus';
import { treeSchema, XenstoreClient } from '@xenpv/xenstore';

const KEYS = treeSchema({ 'ring-ref': { type: 'gref' }, port: { type: 'port' } });
/** What a client that comes late is shown, and what one that does not read may be behind, in bytes. */
const BACKLOG = 64 * 1024;

/** The two rings of a console's page, xen/io/console.h: `input` is what the guest reads. */
function ringsOf(page: Buffer) {
  return { input: new ByteRing(page, CONSOLE_RING.input), output: new ByteRing(page, CONSOLE_RING.output) };
}

class ConsoleDevice implements PvDevice<typeof KEYS> {
  readonly #context: BackendContext;
  readonly #path: string;
  readonly #server = createServer((client) => this.#join(client));
  readonly #clients = new Set<Socket>();
  #line: (ReturnType<typeof ringsOf> & { channel: LinkChannel }) | undefined;
  #shown: Buffer = Buffer.alloc(0);
  #typed: Buffer = Buffer.alloc(0);

  constructor(context: BackendContext, folder: string) {
    this.#context = context;
    this.#path = join(folder, context.name);
  }

  async prepare() {
    await rm(this.#path, { force: true });
    await once(this.#server.listen(this.#path), 'listening');
  }

  connect({ keys, link }: PvConnection<typeof KEYS>) {
    const rings = ringsOf(link.map(keys['ring-ref'], { writable: true }));
    this.#line = { ...rings, channel: link.bind(keys.port, () => this.#move()) };
  }

  disconnect() {
    this.#line = undefined;
  }

  async close() {
    for (const client of this.#clients) client.destroy();
    if (this.#server.listening) await once(this.#server.close(), 'close');
  }

  /** What the guest wrote goes to the clients, what they typed to the guest, as far as its ring has room. */
  #move(): void {
    if (this.#line === undefined) return;
    const { input, output, channel } = this.#line;
    const text = output.readAll();
    const taken = input.write(this.#typed);
    if (text === undefined || taken < 0) {
      this.#context.fail(new Error('the indices of the ring are impossible'));
      return;
    }
    if (text.length > 0 || taken > 0) channel.notify();
    this.#typed = this.#typed.subarray(taken);
    this.#shown = Buffer.concat([this.#shown, text]).subarray(-BACKLOG);
    for (const client of this.#clients) {
      if (text.length > 0) client.write(text);
      if (client.writableLength > BACKLOG) client.destroy();
      else if (this.#typed.length === 0) client.resume();
    }
  }

  #join(client: Socket): void {
    this.#clients.add(client);
    client.on('close', () => this.#clients.delete(client)).on('error', () => {});
    client.on('data', (bytes) => {
      client.pause();
      this.#typed = Buffer.concat([this.#typed, bytes]);
      this.#move();
    });
    client.write(this.#shown);
  }
}

async function serve(provider: XenProvider, store: XenstoreClient, folder: string) {
  const device = (context: BackendContext) => new ConsoleDevice(context, folder);
  return servePv({ provider, store, type: 'console', keys: KEYS, device, serves: ({ devid }) => devid > 0 });
}

if (process.argv[2] !== undefined) {
  const store = await XenstoreClient.connect({ reconnect: true });
  const server = await serve(nativeProvider(), store, process.argv[2]);
  await Promise.race([server.closed, once(process, 'SIGTERM'), once(process, 'SIGINT')]);
  await Promise.all([server.close(), store.close()]);
  process.exit();
}

// The other end: a guest whose frontend does as Linux's hvc_xen does, and a person at a terminal.
const host = await EmulatedHost.create();
const guest = await host.createDomain({ name: 'guest' });
const folder = await mkdtemp(join(tmpdir(), 'consoles-'));
const store = XenstoreClient.open(await host.provider(0).connectXenstore());
const guestStore = XenstoreClient.open(await guest.provider.connectXenstore());
const attached = await attachDevice(store, guest.domid, { type: 'console', devid: 1 });
const first = await serve(host.provider(0), store, folder);
const hvc = await FrontendDevice.connect({
  ...{ provider: guest.provider, store: guestStore, type: 'console', devid: 1, waitForInitWait: false },
  publish: ({ link }) => {
    const { refs, bytes } = link.grant();
    const { input, output } = ringsOf(bytes);
    const channel = link.bind(() => {
      const line = String(Buffer.from(input.readAll() ?? [])).trim();
      if (line === '') return;
      output.write(Buffer.from(`hello ${line}\n`));
      channel.notify();
    });
    return { keys: { 'ring-ref': refs[0], port: channel.port }, shared: { output, channel } };
  },
});
/** What a new terminal shows until `end` comes, after it has typed something. */
async function terminal(typed: string, end: string): Promise<string> {
  const socket = connect(join(folder, `console-${guest.domid}-1`)).setEncoding('utf8');
  socket.write(typed);
  let text = '';
  for await (const chunk of socket) if ((text += chunk).includes(end)) break;
  return text.trim();
}

console.log(await terminal('root\n', 'root\n'));
await first.close();
hvc.shared.output.write(Buffer.from('written while nobody served\n'));
const second = await serve(host.provider(0), store, folder);
await second.settled();
console.log(await terminal('', 'served\n'));
await hvc.reconnect();
hvc.shared.output.write(Buffer.from('from a new ring\n'));
hvc.shared.channel.notify();
console.log((await terminal('', 'ring\n')).split('\n').at(-1));

await hvc.close();
await removeDevice(store, attached);
await second.close();
await Promise.all([guestStore.close(), store.close(), rm(folder, { recursive: true })]);
await host.close();
