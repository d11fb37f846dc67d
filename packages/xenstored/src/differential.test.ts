import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { needs } from '@xenpv/test-support';
import { XsOp } from '@xenpv/xenstore';
import { GenuineServer } from '@xenpv/xenstore/testing';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { answerText, RawClient } from './testing/raw-client.js';
import type { XenstoredQuotas } from './tree/quotas.js';
import { EmulatedXenstored } from './xenstored.js';

/** Domains of the clients: two tools and two guests. */
const CLIENTS = [0, 0, 5, 6] as const;
const GUESTS = [5, 6] as const;

/** A step of a scenario. */
interface Step {
  readonly client: number;
  readonly slot: number;
  readonly type: number;
  readonly payload: string;
}

interface Server {
  readonly clients: RawClient[];
  /** A client of domain 0. */
  connect(): Promise<RawClient>;
  /** Introduces a domain that xenstored does not know, and gives a client of it. */
  introduce(domid: number): Promise<RawClient>;
  stop(): Promise<void>;
}

/** Limits that random requests meet often, and the C daemon's options for them. */
const TIGHT: Partial<XenstoredQuotas> = {
  nodes: 8,
  watches: 2,
  transactions: 1,
  nodeBytes: 130,
  permissions: 3,
  transactionNodes: 9,
};
const TIGHT_OPTIONS = ['-E', '8', '-W', '2', '-t', '1', '-S', '130', '-A', '3', '-Q', 'transaction-nodes=9'];

/** Domain 7 exists too, but xenstored was not told. */
const EXISTING: readonly number[] = [...GUESTS, 7];

async function startGenuine(options: readonly string[] = []): Promise<Server> {
  const daemon = await GenuineServer.start('xenstored', options);
  for (const domid of EXISTING) await writeFile(join(daemon.directory, `dom${domid}.page`), Buffer.alloc(4096));
  return prepare({
    connect: async () => RawClient.onTransport(await daemon.connect()),
    introduce: async (domid) => {
      // The event channel of a domain that was released.
      await rm(join(daemon.directory, `dom${domid}.events`), { force: true });
      return RawClient.onTransport(await daemon.connectGuest(domid));
    },
    stop: () => daemon[Symbol.asyncDispose](),
  });
}

async function startEmulated(quotas: Partial<XenstoredQuotas> = {}): Promise<Server> {
  const daemon = new EmulatedXenstored({ quotas, domainExists: (domid) => EXISTING.includes(domid) });
  return prepare({
    connect: async () => RawClient.onTransport(daemon.connect(0)),
    introduce: async (domid) => {
      daemon.introduceDomain(domid);
      return RawClient.onTransport(daemon.connect(domid));
    },
    stop: () => daemon.close(),
  });
}

async function prepare(server: Omit<Server, 'clients'>): Promise<Server> {
  const clients = [await server.connect(), await server.connect()];
  for (const domid of GUESTS) {
    await prepareHome(clients[0], domid);
    clients.push(await server.introduce(domid));
  }
  return { ...server, clients };
}

async function prepareHome(client: RawClient, domid: number): Promise<void> {
  const home = `/local/domain/${domid}`;
  expect(await client.ask(XsOp.mkdir, `${home}\0`)).toBe('OK\0');
  expect(await client.ask(XsOp.setPermissions, `${home}\0n${domid}\0`)).toBe('OK\0');
}

/** Plays a scenario and writes down every answer and every event. */
async function play(server: Server, steps: readonly Step[]): Promise<string[]> {
  const log: string[] = [];
  const slots = CLIENTS.map(() => new Map<number, number>());
  const introduced = new Set<number>(GUESTS);
  const targets = new Set<number>();
  for (const step of steps) {
    const domid = Number.parseInt(step.payload, 10);
    if (step.type === XsOp.introduce) {
      await introduceAgain(server, domid, introduced);
    } else if (step.type !== XsOp.release || !targets.has(domid)) {
      // The C daemon keeps a released domain that is a target.
      const answer = await carryOut(server.clients[step.client], slots[step.client], step, log);
      if (step.type === XsOp.setTarget && answer === 'OK\0') targets.add(Number(step.payload.split('\0')[1]));
      if (step.type === XsOp.release && answer === 'OK\0') {
        introduced.delete(domid);
        clientOf(server, domid)?.close();
      }
    }
    for (const [i, client] of server.clients.entries()) {
      for (const event of await client.takeEvents()) log.push(`  client ${i}: ${event}`);
    }
  }
  return log;
}

function clientOf(server: Server, domid: number): RawClient | undefined {
  return domid === 0 ? undefined : server.clients[CLIENTS.indexOf(domid as (typeof GUESTS)[number])];
}

/** Introduces a guest that was released. (The C daemon may die of a domain that is introduced twice.) */
async function introduceAgain(server: Server, domid: number, introduced: Set<number>): Promise<void> {
  const former = clientOf(server, domid);
  if (former === undefined || introduced.has(domid)) return;
  introduced.add(domid);
  server.clients[server.clients.indexOf(former)] = await server.introduce(domid);
}

/** Carries out a step of a client, in the transaction that it has open in that slot. */
async function carryOut(client: RawClient, open: Map<number, number>, step: Step, log: string[]): Promise<string> {
  const transaction = open.get(step.slot) ?? 0;
  const starts = step.type === XsOp.transactionStart;
  const reply = await client.request(step.type, step.payload, starts ? 0 : transaction);
  const answer = answerText(step.type, reply);
  if (starts && !answer.startsWith('!')) open.set(step.slot, Number(answer.slice(0, -1)));
  if (step.type === XsOp.transactionEnd && answer !== '!EINVAL') open.delete(step.slot);
  // When the C daemon lets go of a released domain depends on where its connection is in a list.
  const eventsBefore = step.type === XsOp.release ? '?' : reply.eventsBefore;
  log.push(`${describeStep(step, transaction)} -> ${comparable(step, answer)} after ${eventsBefore}`);
  return answer;
}

function describeStep(step: Step, transaction: number): string {
  const payload = step.payload.length > 100 ? `${step.payload.slice(0, 90)}… (${step.payload.length})` : step.payload;
  return `client ${step.client} (${CLIENTS[step.client]}) tx ${transaction} op ${step.type} ${JSON.stringify(payload)}`;
}

/** An answer without the generation that DIRECTORY_PART tells: the daemons count alike only by chance. */
function comparable(step: Step, answer: string): string {
  const told = step.type === XsOp.directoryPart && !answer.startsWith('!');
  return told ? answer.replace(/^[0-9]+/, 'G') : answer;
}

const name = fc.constantFrom('a', 'b', 'c');
const path = fc.oneof(
  { weight: 6, arbitrary: fc.array(name, { minLength: 1, maxLength: 3 }).map((names) => `/${names.join('/')}`) },
  { weight: 6, arbitrary: fc.array(name, { minLength: 1, maxLength: 2 }).map((names) => names.join('/')) },
  {
    weight: 6,
    arbitrary: fc
      .tuple(fc.constantFrom(5, 6), fc.array(name, { maxLength: 2 }))
      .map(([domid, names]) => ['/local/domain', domid, ...names].join('/')),
  },
  {
    weight: 2,
    arbitrary: fc.constantFrom(
      '/',
      '',
      '/local',
      '/local/domain',
      '/local/domain/0',
      '@releaseDomain',
      '@introduceDomain',
      '@x',
      '//',
      '/a/',
      'a//b',
      '/a.b',
      '/@a',
      'a@',
    ),
  },
);
const value = fc.oneof(
  fc.constantFrom('', '1', 'x\0y', '\xff\x80'),
  fc.constantFrom(1900, 2010, 2015, 2016, 2100, 80, 90, 97, 98, 99).map((length) => 'v'.repeat(length)),
);
const permission = fc.oneof(
  {
    weight: 9,
    arbitrary: fc
      .tuple(fc.constantFrom('n', 'r', 'w', 'b'), fc.constantFrom(0, 5, 6, 7, 9))
      .map(([letter, domid]) => `${letter}${domid}`),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      '',
      'n',
      'x5',
      'r',
      'n5x',
      'r0x5',
      'n-1',
      'w 5',
      'b05',
      'n65536',
      'r99999999999999999999',
      'r4294967296',
      'r08',
      'r0X5',
      'r+5',
      'r 0x',
    ),
  },
);
const token = fc.constantFrom('t', 'u', '');

function payloads(): fc.Arbitrary<{ type: number; payload: string }> {
  const of = (type: number, weight: number, payload: fc.Arbitrary<string>) => ({
    weight,
    arbitrary: payload.map((text) => ({ type, payload: text })),
  });
  const onePath = path.map((text) => `${text}\0`);
  return fc.oneof(
    of(
      XsOp.write,
      14,
      fc.tuple(path, value).map((parts) => parts.join('\0')),
    ),
    of(XsOp.read, 5, onePath),
    of(XsOp.directory, 3, onePath),
    of(
      XsOp.directoryPart,
      2,
      fc.tuple(path, fc.constantFrom('0', '2', '1', '100', '', '-1', 'x')).map((parts) => `${parts.join('\0')}\0`),
    ),
    of(XsOp.mkdir, 6, onePath),
    of(XsOp.remove, 9, onePath),
    of(XsOp.getPermissions, 4, onePath),
    of(
      XsOp.setPermissions,
      9,
      fc
        .tuple(path, fc.array(permission, { minLength: 1, maxLength: 6 }))
        .map(([at, list]) => `${[at, ...list].join('\0')}\0`),
    ),
    of(
      XsOp.watch,
      6,
      fc.tuple(path, token).map((parts) => `${parts.join('\0')}\0`),
    ),
    of(
      XsOp.unwatch,
      3,
      fc.tuple(path, token).map((parts) => `${parts.join('\0')}\0`),
    ),
    of(XsOp.transactionStart, 6, fc.constant('\0')),
    of(XsOp.transactionEnd, 6, fc.constantFrom('T\0', 'T\0', 'T\0', 'F\0', 'X\0', '')),
    of(
      XsOp.getDomainPath,
      1,
      fc.constantFrom(
        '5\0',
        '\0',
        'x\0',
        '-1\0',
        '5',
        '99999\0',
        ' 7\0',
        '99999999999999999999\0',
        '-99999999999999999999\0',
        '4294967301\0',
      ),
    ),
    of(XsOp.isDomainIntroduced, 1, fc.constantFrom('5\0', '7\0', '0\0', '32752\0', 'x\0', '')),
    of(XsOp.setTarget, 1, fc.constantFrom('5\x006\0', '5\x007\0', '5\0', '6\x005\0', '')),
    of(XsOp.introduce, 1, fc.constantFrom('5', '6')),
    of(XsOp.release, 1, fc.constantFrom('5\0', '6\0', '7\0', '0\0', 'x\0')),
    of(XsOp.resume, 1, fc.constantFrom('5\0', '7\0', '0\0', '')),
  );
}

const garbage = fc.record({
  type: fc.constantFrom(
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    10,
    11,
    12,
    13,
    14,
    15,
    16,
    17,
    18,
    19,
    20,
    22,
    23,
    24,
    25,
    26,
    27,
    99,
    0x80000000,
    0xffffffff,
  ),
  payload: fc.oneof(
    fc
      .array(fc.constantFrom('\0', '/', 'a', 'T', '@', '5', 'n', '\xff'), { maxLength: 12 })
      .map((parts) => parts.join('')),
    fc.constantFrom(
      `/${'a'.repeat(3071)}\0`,
      `/${'a'.repeat(3072)}\0`,
      `${'a'.repeat(3000)}\0`,
      `/${'a/'.repeat(1000)}b\0`,
    ),
  ),
});

const ONE_PATH: readonly number[] = [XsOp.directory, XsOp.read, XsOp.getPermissions, XsOp.mkdir, XsOp.remove];

/**
 * The request, or one that can be compared. The C daemon answers with whatever errno was left over, and dies when that
 * is none, to a path that is no single string and to a SET_PERMS of a special name that it refuses.
 */
function askable(step: Step): Step {
  if (ONE_PATH.includes(step.type)) return { ...step, payload: `${step.payload.replaceAll('\0', '')}\0` };
  if (step.type !== XsOp.setPermissions) return step;
  const allowed = CLIENTS[step.client] === 0 && /^@(?:introduce|release)Domain\0/.test(step.payload);
  // The C daemon would remove the root together with a domain that owns it.
  return allowed ? step : { ...step, payload: step.payload.replace('@', '/').replace(/^\/\0/, '/a\0') };
}

const step: fc.Arbitrary<Step> = fc
  .tuple(
    fc.constantFrom(0, 1, 2, 2, 3),
    fc.constantFrom(0, 0, 1),
    fc.oneof({ weight: 14, arbitrary: payloads() }, { weight: 1, arbitrary: garbage }),
  )
  .map(([client, slot, request]) => askable({ client, slot, ...request }));

const runs = Number(process.env.XENSTORED_FUZZ_RUNS ?? 15);

/** Plays random scenarios on fresh servers of both kinds. */
async function compare(genuine: () => Promise<Server>, emulated: () => Promise<Server>): Promise<void> {
  const scenario = fc.array(step, { minLength: 5, maxLength: 120, size: 'max' });
  const property = fc.asyncProperty(scenario, async (steps) => {
    const servers = [await genuine(), await emulated()] as const;
    try {
      const expected = await play(servers[0], steps);
      expect(await play(servers[1], steps)).toEqual(expected);
    } finally {
      for (const server of servers) await server.stop();
    }
  });
  await fc.assert(property, { numRuns: runs });
}

// The release whose behaviour the emulator has.
needs('Xen 4.17', 'xenctrl.h', 'cc').describe('emulated and genuine C xenstored', () => {
  it('answer random requests alike', () => compare(startGenuine, startEmulated), 600_000);

  it(
    'enforce quotas alike',
    () =>
      compare(
        () => startGenuine(TIGHT_OPTIONS),
        () => startEmulated(TIGHT),
      ),
    600_000,
  );
});
