import { testProvider } from '@xenpv/xen-sys/testing';
import { describe, it } from 'vitest';
import { attachProvider } from './attach.js';
import type { EmulatedDomain } from './domain.js';
import { EmulatedHost } from './host.js';

async function hostWithDomain(options = {}): Promise<{ host: EmulatedHost; guest: EmulatedDomain }> {
  const host = await EmulatedHost.create(options);
  return { host, guest: await host.createDomain({ name: 'guest', memoryMiB: 1 }) };
}

/** Everything that either domain still holds, as lines. */
function leaksOf(host: EmulatedHost, guest: EmulatedDomain): string[] {
  const held = { 'domain 0': host.usage(0), guest: guest.usage() };
  return Object.entries(held).flatMap(([name, usage]) =>
    Object.entries(usage).flatMap(([what, count]) => (count === 0 ? [] : [`${name}: ${count} ${what}`])),
  );
}

testProvider(
  'emulator',
  async () => {
    const { host, guest } = await hostWithDomain();
    return {
      backend: { domid: 0, provider: host.provider() },
      frontend: { domid: guest.domid, provider: guest.provider },
      leaks: () => leaksOf(host, guest),
      close: () => host.close(),
    };
  },
  { describe, it },
);

testProvider(
  'emulator, one domain with itself',
  async () => {
    const { host, guest } = await hostWithDomain();
    const domain = { domid: guest.domid, provider: guest.provider };
    return { backend: domain, frontend: domain, leaks: () => leaksOf(host, guest), close: () => host.close() };
  },
  { describe, it },
);

testProvider(
  'emulator, with strict memory,',
  async () => {
    const { host, guest } = await hostWithDomain({ strict: true });
    return {
      backend: { domid: 0, provider: host.provider() },
      frontend: { domid: guest.domid, provider: guest.provider },
      leaks: () => [...leaksOf(host, guest), ...host.misuses().map((misuse) => JSON.stringify(misuse))],
      close: () => host.close(),
    };
  },
  { describe, it },
);

testProvider(
  'emulator, driver domain, attached by what it shares',
  async () => {
    const { host, guest } = await hostWithDomain();
    const driver = await host.createDomain({ name: 'storage', driverDomain: true });
    return {
      backend: { domid: driver.domid, provider: await attachProvider(driver.share().data) },
      frontend: { domid: guest.domid, provider: await attachProvider(guest.share().data) },
      leaks: () => leaksOf(host, guest),
      close: () => host.close(),
    };
  },
  { describe, it },
);
