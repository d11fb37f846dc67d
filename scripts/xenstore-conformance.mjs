/**
 * `node scripts/xenstore-conformance.mjs`, after a build: runs the conformance suite of @xenpv/xenstore over every
 * server that this machine has, and writes docs/xenstore-conformance.md. Exit code 1 if a server surprises.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  clientCases,
  conformanceCases,
  GenuineServer,
  knownDifferences,
  runClientCase,
  runConformanceCase,
} from '../packages/xenstore/dist/testing.js';
import { EmulatedXenstored } from '../packages/xenstored/dist/index.js';
import { ROOT } from './lib/workspace.mjs';

const SERVERS = [
  { name: 'C xenstored 4.17', start: () => genuine('xenstored') },
  { name: 'oxenstored 4.17', start: () => genuine('oxenstored') },
  { name: 'emulator', start: emulated },
];

const columns = [];
for (const { name, start } of SERVERS) {
  const target = await start();
  console.error(target.missing ? `${name}: not run, ${target.missing}` : `${name} ...`);
  columns.push({ name, ...(await runAll(target)) });
  await target[Symbol.asyncDispose]?.();
}
writeFileSync(join(ROOT, 'docs', 'xenstore-conformance.md'), page());
const surprises = columns.flatMap(({ name, surprises }) => surprises.map((text) => `${name}: ${text}`));
for (const text of surprises) console.error(text);
process.exitCode = surprises.length > 0 ? 1 : 0;

async function genuine(kind) {
  const missing = GenuineServer.missing(kind);
  return missing === undefined ? GenuineServer.start(kind) : { kind, missing };
}

async function emulated() {
  const domains = new Set([0]);
  const server = new EmulatedXenstored({ domainExists: (domid) => domains.has(domid) });
  return {
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
    [Symbol.asyncDispose]: () => server.close(),
  };
}

async function runAll(target) {
  const surprises = [];
  const cells = new Map();
  for (const one of conformanceCases) {
    const result = target.missing ? { outcome: 'skipped' } : await runConformanceCase(one, target);
    cells.set(one.name, cell(result));
    if (result.outcome === 'wrong') surprises.push(`${one.name}: saw ${JSON.stringify(result.observed)}`);
  }
  for (const one of clientCases) {
    const error = target.missing ? undefined : await runClientCase(one, target).catch((thrown) => thrown);
    cells.set(one.name, target.missing ? 'not run' : error ? 'fails' : 'yes');
    if (error) surprises.push(`${one.name}: ${error.message}`);
  }
  return { cells, surprises };
}

function cell({ outcome, note }) {
  if (outcome === 'same') return 'same';
  if (outcome === 'differs') return note;
  return outcome === 'wrong' ? 'WRONG' : 'not run';
}

function page() {
  const differences = Object.keys(knownDifferences.oxenstored).length;
  return `# What xenstored servers do

Written by \`node scripts/xenstore-conformance.mjs\`; not to be edited by hand.

The suite of \`@xenpv/xenstore/testing\` asks servers on the wire and compares what it sees with the C daemon of Xen 4.17.
The genuine daemons run on a machine without Xen, over a stand-in for the hypervisor
(\`packages/xenstore/src/testing/genuine-server\`); the emulator is \`@xenpv/xenstored\`. "same" is what the C daemon does;
other text says what is different, which the suite knows (${differences} cases for oxenstored) and checks as strictly.

In the lab (\`npm run test:xen\`) the cases that need no made-up domain run over the xenstored of a real Xen 4.17 and 4.20
too: 4.20 takes longer absolute paths (${Object.keys(knownDifferences['xenstored-4.20']).length} cases), and is the same otherwise.

## The protocol

${table(conformanceCases)}
## The client

What \`XenstoreClient\` does on each server.

${table(clientCases)}`;
}

function table(cases) {
  const head = `| case | ${columns.map(({ name }) => name).join(' | ')} |\n| --- | ${columns.map(() => '---').join(' | ')} |\n`;
  const rows = cases.map(({ name }) => `| ${name} | ${columns.map(({ cells }) => cells.get(name)).join(' | ')} |\n`);
  return head + rows.join('');
}
