import { strict as assert } from 'node:assert';
import { code, fired, NOBODY, type SuiteTests, unmask } from './session.js';

export const eventTests: SuiteTests = {
  'a port bound to a remote one fires at once': async (session) => {
    const front = session.open(session.frontend.provider.openEventChannels());
    const back = session.open(session.backend.provider.openEventChannels());
    const frontPort = front.bindUnbound(session.backend.domid);
    const backPort = back.bindInterdomain(session.frontend.domid, frontPort);
    assert.deepEqual(await fired(back), [backPort]);
  },

  'events go both ways': async (session) => {
    const { front, back, frontPort, backPort } = await session.channel();
    assert.equal(back.notify(backPort), 0);
    assert.deepEqual(await fired(front), [frontPort]);
    unmask(front, frontPort);
    assert.equal(front.notify(frontPort), 0);
    assert.deepEqual(await fired(back), [backPort]);
  },

  'a delivered port stays masked until it is unmasked, and fires then for what came meanwhile': async (session) => {
    const { front, back, frontPort, backPort } = await session.channel();
    back.notify(backPort);
    assert.deepEqual(await fired(front), [frontPort]);
    back.notify(backPort);
    assert.deepEqual(await session.firedSoFar(front), []);
    const again = fired(front);
    unmask(front, frontPort);
    assert.deepEqual(await again, [frontPort]);
    unmask(front, frontPort);
    assert.deepEqual(await session.firedSoFar(front), []);
  },

  // Linux takes the first when it comes and keeps one more, a provider without interrupts may make one of all.
  'events that nobody took yet are one, or one and another': async (session) => {
    const { front, back, frontPort, backPort } = await session.channel();
    for (let i = 0; i < 10; i++) back.notify(backPort);
    assert.deepEqual(await fired(front), [frontPort]);
    unmask(front, frontPort);
    const another = await session.firedSoFar(front);
    if (another.length > 0) assert.deepEqual(another, [frontPort]);
    if (another.length > 0) unmask(front, frontPort);
    assert.deepEqual(await session.firedSoFar(front), []);
  },

  'pending reads what fired without waiting': async (session) => {
    const { front, back, frontPort, backPort } = await session.channel();
    const ports = new Uint32Array(4);
    assert.equal(front.pending(ports), 0);
    back.notify(backPort);
    assert.equal(front.pending(ports), 1);
    assert.equal(ports[0], frontPort);
    assert.equal(front.pending(ports), 0);
  },

  'an event is delivered to the handle that bound the port, and to no other': async (session) => {
    const { front, back, frontPort, backPort } = await session.channel();
    const other = session.open(session.frontend.provider.openEventChannels());
    back.notify(backPort);
    assert.deepEqual(await session.firedSoFar(other), []);
    assert.ok(other.notify(frontPort) < 0);
    assert.throws(() => other.unbind(frontPort), code('EINVAL', 'ENOTCONN'));
    assert.deepEqual(await fired(front), [frontPort]);
  },

  'many ports fire in one delivery or several, each once': async (session) => {
    const channels = session.open(session.backend.provider.openEventChannels());
    const front = session.open(session.frontend.provider.openEventChannels());
    const expected = new Set<number>();
    for (let i = 0; i < 70; i++) {
      const port = front.bindUnbound(session.backend.domid);
      expected.add(channels.bindInterdomain(session.frontend.domid, port));
    }
    while (expected.size > 0) for (const port of await fired(channels)) assert.ok(expected.delete(port));
  },

  'what fired while nobody listened is delivered to the next listener': async (session) => {
    const { front, back, frontPort, backPort } = await session.channel();
    front.listen(() => assert.fail('stopped'));
    front.listen(undefined);
    back.notify(backPort);
    assert.deepEqual(await fired(front), [frontPort]);
  },

  'a port that is not open to us cannot be bound': async (session) => {
    const back = session.open(session.backend.provider.openEventChannels());
    assert.throws(() => back.bindInterdomain(session.frontend.domid, 900), code('EINVAL'));
    const { frontPort } = await session.channel();
    assert.throws(() => back.bindInterdomain(session.frontend.domid, frontPort), code('EINVAL'));
  },

  'a domain that is not there cannot be bound to': async (session) => {
    const back = session.open(session.backend.provider.openEventChannels());
    assert.throws(() => back.bindInterdomain(NOBODY, 1), code('ESRCH', 'EINVAL'));
  },

  'unbinding leaves the other end open to the same domain': async (session) => {
    const { front, back, frontPort, backPort } = await session.channel();
    back.unbind(backPort);
    assert.throws(() => back.unbind(backPort), code('EINVAL', 'ENOTCONN'));
    assert.ok(back.notify(backPort) < 0);
    assert.equal(front.notify(frontPort), 0);
    const again = back.bindInterdomain(session.frontend.domid, frontPort);
    front.notify(frontPort);
    assert.deepEqual(await fired(back), [again]);
  },

  'a port that is not bound here is refused': async (session) => {
    const back = session.open(session.backend.provider.openEventChannels());
    assert.ok(back.notify(1023) < 0);
  },

  'closing twice is harmless, and then nothing works': async (session) => {
    const { back, backPort } = await session.channel();
    back.close();
    back.close();
    assert.ok(back.notify(backPort) < 0);
    assert.throws(() => back.bindUnbound(session.frontend.domid), code('ERR_CLOSED'));
  },
};
