import { type ConformanceTarget, checkConformanceCase, conformanceCases } from '@xenpv/xenstore/testing';
import { it } from 'vitest';
import { EmulatedXenstored } from './xenstored.js';

const domains = new Set([0]);
const server = new EmulatedXenstored({ domainExists: (domid) => domains.has(domid) });

/** The server as the suite, which also runs over the genuine daemons, wants it. */
const target: ConformanceTarget = {
  kind: 'emulator',
  connect: async () => server.connect(0),
  connectGuest: async (domid) => {
    domains.add(domid);
    server.introduceDomain(domid);
    return server.connect(domid);
  },
  removeGuest: async (domid) => {
    domains.delete(domid);
    server.releaseDomain(domid);
  },
};

it.each(conformanceCases)('$name', (one) => checkConformanceCase(one, target), 30_000);
