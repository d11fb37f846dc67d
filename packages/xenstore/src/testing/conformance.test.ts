import { needs } from '@xenpv/test-support';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { clientCases, runClientCase } from './client/run.js';
import { knownDifferences } from './conformance/differences.js';
import { checkConformanceCase, conformanceCases } from './conformance/run.js';
import { type GenuineKind, GenuineServer } from './genuine-server/genuine-server.js';

it('cases have names of their own, differences the names of cases', () => {
  const names = conformanceCases.map((one) => one.name);
  expect(new Set(names).size).toBe(names.length);
  const known = Object.values(knownDifferences).flatMap((differences) => Object.keys(differences));
  expect(known.filter((name) => !names.includes(name))).toEqual([]);
});

for (const kind of ['xenstored', 'oxenstored'] satisfies GenuineKind[]) {
  needs(kind, 'xenctrl.h', 'cc').describe(`genuine ${kind}`, () => {
    let server: GenuineServer;
    beforeAll(async () => {
      server = await GenuineServer.start(kind);
    });
    afterAll(() => server[Symbol.asyncDispose]());

    it.each(conformanceCases)('$name', (one) => checkConformanceCase(one, server), 30_000);

    it.each(clientCases)('the client $name', (one) => runClientCase(one, server), 30_000);
  });
}
