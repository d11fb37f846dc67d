import type { XenstoreTransport } from '@xenpv/xen-sys';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TestDaemon } from '../testing/daemon.js';
import type { EmbeddedHost } from '../testing/host.js';

let daemon: TestDaemon;
let host: EmbeddedHost;

beforeEach(async () => {
  daemon = await TestDaemon.create();
  host = daemon.host;
});
afterEach(() => daemon[Symbol.asyncDispose]());

/** A transport that ends as if xenstored had gone away, when the function that it adds to `breakers` is called. */
function breakable(transport: XenstoreTransport, breakers: (() => void)[]): XenstoreTransport {
  const start = transport.start.bind(transport);
  transport.start = (listener) => {
    start(listener);
    breakers.push(() => {
      void transport.close();
      listener.close(new Error('xenstored is gone'));
    });
  };
  return transport;
}

describe('the daemon while xenstored is away', () => {
  it('goes on when it comes back', async () => {
    const provider = host.host.provider(0);
    const breakers: (() => void)[] = [];
    const connect = provider.connectXenstore.bind(provider);
    provider.connectXenstore = async (options) => breakable(await connect(options), breakers);
    const ended = daemon.start({ 'control-socket': false }, provider);
    await daemon.says('ready');
    const before = await daemon.attach('before');
    const guest = await host.connectGuest(before.domid);
    breakers.pop()!();
    await daemon.says('connected to xenstored again');
    expect(Buffer.from(await guest.read(0, 512)).equals(before.data.subarray(0, 512))).toBe(true);
    const after = await daemon.attach('after');
    const another = await host.connectGuest(after.domid);
    expect(Buffer.from(await another.read(0, 512)).equals(after.data.subarray(0, 512))).toBe(true);
    for (const { domid } of [before, after]) await host.host.toolstack.detachDisk(domid, 'xvda');
    daemon.stop();
    expect(await ended).toBe(0);
  });

  it('can be stopped', async () => {
    const ended = daemon.start({ 'control-socket': false });
    await daemon.says('ready');
    await host.host.close();
    await daemon.says('lost the connection to xenstored');
    daemon.stop();
    expect(await ended).toBe(0);
  });
});
