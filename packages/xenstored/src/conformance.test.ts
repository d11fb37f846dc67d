import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type ConformanceTarget,
  checkConformanceCase,
  clientCases,
  conformanceCases,
  runClientCase,
} from '@xenpv/xenstore/testing';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { RingTransport } from './ports/ring-transport.js';
import { socketTransport } from './testing/raw-client.js';
import { EmulatedXenstored } from './xenstored.js';

/** A server as the suite, which also runs over the genuine daemons, wants it. */
function conformanceTarget() {
  const domains = new Set([0]);
  const daemon = new EmulatedXenstored({ domainExists: (domid) => domains.has(domid) });
  const target = {
    kind: 'emulator',
    connect: async () => daemon.connect(0),
    connectGuest: async (domid: number) => {
      domains.add(domid);
      daemon.introduceDomain(domid);
      return daemon.connect(domid);
    },
    removeGuest: async (domid: number) => {
      domains.delete(domid);
      daemon.releaseDomain(domid);
    },
  } satisfies ConformanceTarget;
  return { daemon, target };
}

describe('the emulated xenstored, in process', () => {
  const { daemon, target } = conformanceTarget();
  afterAll(() => daemon.close());
  it.each(conformanceCases)('$name', (one) => checkConformanceCase(one, target), 30_000);
  it.each(clientCases)('the client $name', (one) => runClientCase(one, target), 30_000);
});

describe('the emulated xenstored, on a socket and on rings', () => {
  const dir = mkdtempSync(join(tmpdir(), 'emulated-xenstored-'));
  const { daemon, target } = conformanceTarget();
  const remote: ConformanceTarget = {
    ...target,
    connect: () => socketTransport(join(dir, 'socket')),
    connectGuest: async (domid) => {
      await target.connectGuest(domid);
      const page = { buffer: new SharedArrayBuffer(4096), byteOffset: 0 };
      daemon.attachRing(domid, page);
      return new RingTransport({ page });
    },
  };
  beforeAll(() => daemon.listen(join(dir, 'socket')));
  afterAll(async () => {
    await daemon.close();
    rmSync(dir, { recursive: true });
  });
  it.each(conformanceCases)('$name', (one) => checkConformanceCase(one, remote), 30_000);
  it.each(clientCases)('the client $name', (one) => runClientCase(one, remote), 30_000);
});
