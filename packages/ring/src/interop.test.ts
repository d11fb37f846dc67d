import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { needs } from '@xenpv/test-support';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BackRing, FrontRing, ringSlots } from './index.js';

/*
 * Our rings against rings written in C from the facts of io/ring.h, in shared memory between processes, in all four
 * pairings. A wake-up that is lost hangs the exchange, so it ends in a time-out.
 */

const COUNT = 20_000;

interface Exchange {
  readonly bytes: number;
  readonly slotBytes: number;
  readonly start: number;
}

/** One end of the ring while it runs. */
interface End {
  /** An event from the peer. */
  wake(): void;
  /** Resolves when everything was exchanged, rejects when anything was wrong. */
  readonly done: Promise<void>;
}

const mixed = (number: number, word: number) => Math.imul(number, 2654435761) ^ Math.imul(word, 40503);

needs('Linux', 'cc').describe('against a ring in C', () => {
  let folder: string;
  let map: (path: string, bytes: number) => ArrayBuffer;
  const children: ChildProcess[] = [];

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'ring-'));
    const source = (name: string) => fileURLToPath(new URL(name, import.meta.url));
    execFileSync('cc', ['-O2', '-Wall', '-o', join(folder, 'ring'), source('interop-ring.c')]);
    execFileSync('cc', ['-O2', '-shared', '-fPIC', '-o', join(folder, 'map.node'), source('interop-map.c')]);
    map = createRequire(import.meta.url)(join(folder, 'map.node'));
  }, 60_000);

  afterAll(() => {
    for (const child of children) child.kill();
    rmSync(folder, { recursive: true });
  });

  function theirs(role: 'front' | 'back', file: string, exchange: Exchange, notify: () => void): End {
    const { bytes, slotBytes, start } = exchange;
    const args = [role, file, bytes, slotBytes, start, COUNT].map(String);
    const child = spawn(join(folder, 'ring'), args, { stdio: ['pipe', 'pipe', 'pipe'] });
    children.push(child);
    child.stdout.on('data', notify);
    // It may have all it wanted, and be gone, when the last event comes.
    child.stdin.on('error', () => {});
    let message = '';
    child.stderr.on('data', (text) => (message += text));
    const done = new Promise<void>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code) => (code === 0 ? resolve() : reject(new Error(`${role} in C: ${message}`))));
    });
    return { wake: () => child.stdin.write('!'), done };
  }

  async function run(front: 'ours' | 'C', back: 'ours' | 'C', exchange: Exchange): Promise<void> {
    const file = join(folder, `${front}-${back}-${exchange.bytes}-${exchange.slotBytes}-${exchange.start}`);
    writeFileSync(file, Buffer.alloc(exchange.bytes));
    const memory = new Uint8Array(map(file, exchange.bytes));
    let backEnd: End | undefined;
    const early: string[] = [];
    const toBack = () => (backEnd === undefined ? early.push('!') : backEnd.wake());
    const frontEnd = front === 'C' ? theirs('front', file, exchange, toBack) : ourFront(memory, exchange, toBack);
    // The front's first event says that the ring is there.
    while (early.length === 0) await new Promise((resolve) => setImmediate(resolve));
    const toFront = () => frontEnd.wake();
    backEnd = back === 'C' ? theirs('back', file, exchange, toFront) : ourBack(memory, exchange, toFront);
    backEnd.wake();
    await Promise.all([frontEnd.done, backEnd.done]);
  }

  const exchanges: Exchange[] = [
    { bytes: 4096, slotBytes: 112, start: 0 },
    { bytes: 4096, slotBytes: 108, start: 2 ** 32 - 5000 },
    { bytes: 4096 << 2, slotBytes: 112, start: 2 ** 31 - 5000 },
    { bytes: 4096 << 4, slotBytes: 108, start: 2 ** 32 - 1 },
    { bytes: 4096, slotBytes: 1024, start: 0 },
  ];
  const pairings = [
    ['ours', 'ours'],
    ['ours', 'C'],
    ['C', 'ours'],
    ['C', 'C'],
  ] as const;

  describe.each(pairings)('front %s, back %s', (front, back) => {
    it.each(exchanges)('$bytes bytes, slots of $slotBytes, from $start', { timeout: 60_000 }, async (exchange) => {
      await run(front, back, exchange);
    });
  });
});

/** Runs `step` at once and at each wake-up, until it says that all is done. */
function makeEnd(step: () => boolean): End {
  let resolve: () => void;
  let reject: (error: unknown) => void;
  const done = new Promise<void>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  const wake = () => {
    try {
      if (step()) resolve();
    } catch (error) {
      reject(error);
    }
  };
  setImmediate(wake);
  return { wake: () => setImmediate(wake), done };
}

function ourFront(memory: Uint8Array, { slotBytes, start }: Exchange, notify: () => void): End {
  new FrontRing(memory, slotBytes);
  const shared = new Int32Array(memory.buffer);
  shared.set([start, start + 1, start, start + 1]);
  const ring = FrontRing.attach(memory, slotBytes);
  expect(ring.size).toBe(ringSlots(memory.length, slotBytes));
  const words = new Int32Array(slotBytes / 4);
  const seen = new Set<number>();
  let sent = 0;
  const take = () => {
    const count = ring.harvest();
    if (count < 0) throw new Error('overflow');
    for (let i = 0; i < count; i++) {
      ring.takeResponse(words, 0, 4);
      const right = words[0] < sent && [1, 2, 3].every((at) => words[at] === ~mixed(words[0], at));
      if (!right || seen.has(words[0])) throw new Error(`response ${words[0]} is wrong`);
      seen.add(words[0]);
    }
  };
  const step = () => {
    do {
      take();
      for (let burst = 1 + (sent % ring.size); burst > 0 && sent < COUNT && !ring.full; burst--, sent++) {
        for (let at = 0; at < words.length; at++) words[at] = at === 0 ? sent : mixed(sent, at);
        ring.putRequest(words, 0, words.length);
      }
      if (ring.pushRequests()) notify();
    } while (ring.finalCheck() || (sent < COUNT && !ring.full));
    return seen.size === COUNT;
  };
  setImmediate(notify);
  return makeEnd(step);
}

function ourBack(memory: Uint8Array, { slotBytes }: Exchange, notify: () => void): End {
  const ring = BackRing.attach(memory, slotBytes);
  const words = new Int32Array(slotBytes / 4);
  const held: number[] = [];
  let taken = 0;
  let answered = 0;
  const take = () => {
    const count = ring.harvest();
    if (count < 0) throw new Error('overflow');
    for (let i = 0; i < count; i++, taken++) {
      ring.takeRequest(words, 0);
      for (let at = 0; at < words.length; at++) {
        if (words[at] !== (at === 0 ? taken : mixed(taken, at))) throw new Error(`request ${taken} is wrong`);
      }
      held.push(taken);
    }
  };
  const answer = (number: number) => {
    words[0] = number;
    for (let at = 1; at < 4; at++) words[at] = ~mixed(number, at);
    ring.putResponse(words, 0, 4);
    answered++;
  };
  const step = () => {
    do {
      take();
      for (let burst = 1 + (answered % ring.size); burst > 0 && held.length > 0; burst--) {
        answer(held.splice((answered * 7919) % held.length, 1)[0]);
      }
      if (ring.pushResponses()) notify();
    } while (ring.finalCheck() || held.length > 0);
    return answered === COUNT;
  };
  return makeEnd(step);
}
