import { FrontendDevice } from '@xenpv/xenbus';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { EchoWorld, until } from './echo-world.js';

const NOTHING = { mapped: 0, ports: 0 };

/** What a guest may write for a number. */
const anyText = fc.oneof(
  fc.string({ maxLength: 20 }),
  fc.nat().map(String),
  fc.constantFrom('', '0', '-1', '1', '4294967295', '4294967296', '1e3', ' 8', '8 ', '0x8', '08'),
);

it('whatever a guest writes for a grant and a port, it is refused or served, and nothing of it is held after', async () => {
  await fc.assert(
    fc.asyncProperty(anyText, anyText, fc.boolean(), async (ref, port, grantIsGood) => {
      await using world = await EchoWorld.create();
      await world.serve();
      await world.attach(0);
      await world.attach(1);
      const well = await world.connect({ devid: 1 });
      const trying = world.connect({
        publish: ({ link }) => {
          const { refs, bytes } = link.grant();
          const keys = { 'page-ref': grantIsGood ? refs[0] : ref, 'event-channel': port };
          return { keys, shared: { page: bytes, notify: () => {} } };
        },
      });
      const outcome = await trying.catch((error: unknown) => error);
      if (outcome instanceof Error) {
        expect(outcome).toMatchObject({ code: 'ERR_HANDSHAKE' });
        expect(await world.error()).toMatch(/^(EINVAL|ERR_INVALID_VALUE) /);
      }
      const before = well.shared.page[0];
      well.shared.notify();
      await until(() => well.shared.page[0] !== before);
      await well.close();
      if (outcome instanceof FrontendDevice) await outcome.close();
      expect(world.held).toEqual(NOTHING);
    }),
    { numRuns: 40 },
  );
});

const STEPS = ['reconnect', 'replace', 'misbehave', 'notify', 'configure', 'fail to connect'] as const;

it('whatever happens in whatever order, a frontend is served in the end, and nothing is held after', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.constantFrom(...STEPS), { maxLength: 8 }), async (steps) => {
      await using world = await EchoWorld.create();
      let server = await world.serve();
      await world.attach(0, 'grey');
      const frontend = await world.connect();
      for (const [index, step] of steps.entries()) {
        world.act = (hook) => {
          if (step === 'misbehave' && hook === 'event') throw new Error('a wrong event');
          if (step === 'fail to connect' && hook === 'connect') throw new Error('not now');
        };
        if (step === 'reconnect' || step === 'fail to connect') await frontend.reconnect().catch(() => {});
        if (step === 'configure') await world.store.write(`${world.back()}/colour`, `grey ${index}`);
        if (step === 'notify' || step === 'misbehave') {
          if (frontend.connected) frontend.shared.notify();
        }
        if (step === 'misbehave') await frontend.disconnected;
        if (step !== 'replace') continue;
        await server.close();
        expect(world.held).toEqual(NOTHING);
        server = await world.serve();
      }
      world.act = () => {};
      await frontend.reconnect();
      const before = frontend.shared.page[0];
      frontend.shared.notify();
      await until(() => frontend.shared.page[0] !== before);
      expect(world.held).toEqual({ mapped: 1, ports: 1 });
      await frontend.close();
      expect(world.held).toEqual(NOTHING);
    }),
    { numRuns: 30 },
  );
});
