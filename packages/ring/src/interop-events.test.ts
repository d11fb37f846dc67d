import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { needs } from '@xenpv/test-support';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { EventRing, KEYBOARD_PAGE } from './index.js';

/* Our events against a program that uses the structures and macros of Xen's io/kbdif.h at the other end of the page. */

const COUNT = 20_000;
const PAGE = 4096;
const POSITION = 4;
const LAST_WORD = 9;

/** What event `number` is: a position to the guest; from it, what no header defines yet. */
function eventOf(to: 'guest' | 'backend', number: number): Uint8Array {
  const words = new Int32Array(10);
  if (to === 'guest') words.set([POSITION, number, ~number, 7]);
  else [words[0], words[LAST_WORD]] = [number, ~number];
  return new Uint8Array(words.buffer);
}

needs('Linux', 'cc', 'xenctrl.h').describe("events against Xen's header", () => {
  let folder: string;
  let map: (path: string, bytes: number) => ArrayBuffer;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'events-'));
    const source = (name: string) => fileURLToPath(new URL(name, import.meta.url));
    execFileSync('cc', ['-O2', '-Wall', '-o', join(folder, 'events'), source('interop-events.c')]);
    execFileSync('cc', ['-O2', '-shared', '-fPIC', '-o', join(folder, 'map.node'), source('interop-map.c')]);
    map = createRequire(import.meta.url)(join(folder, 'map.node'));
  }, 60_000);
  afterAll(() => rmSync(folder, { recursive: true }));

  it.each([
    ['guest', 0, 51],
    ['backend', 0, 51],
    ['guest', 2 ** 31 - 30, 51],
    // Where indices begin anew, a place comes twice within a full ring, by the headers: 2^32 is no multiple of 51 or 25.
    ['backend', 2 ** 32 - 30, 1],
    ['guest', 2 ** 32 - 1, 1],
  ] as const)('ours is the %s, from index %i, %i at a time', async (side, start, most) => {
    const file = join(folder, `${side}-${start}`);
    writeFileSync(
      file,
      new Uint8Array(Uint32Array.from({ length: PAGE / 4 }, (_, word) => (word < 4 ? start : 0)).buffer),
    );
    const page = new Uint8Array(map(file, PAGE));
    const other = side === 'guest' ? 'backend' : 'guest';
    const takes = new EventRing(page, side === 'guest' ? KEYBOARD_PAGE.input : KEYBOARD_PAGE.output);
    const puts = new EventRing(page, side === 'guest' ? KEYBOARD_PAGE.output : KEYBOARD_PAGE.input);
    const child = spawn(join(folder, 'events'), [other, file, String(COUNT), String(most)], { stdio: 'pipe' });
    // It may have all it wanted, and be gone, when the last event comes.
    child.stdin.on('error', () => {});
    let complaint = '';
    child.stderr.on('data', (text) => (complaint += text));
    const event = new Uint8Array(takes.eventBytes);
    let [sent, received, wrong] = [0, 0, 0];
    const step = () => {
      const before = sent + received;
      while (takes.take(event)) if (Buffer.compare(event, eventOf(side, received++)) !== 0) wrong++;
      while (sent < COUNT && puts.queued < most && puts.put(eventOf(other, sent))) sent++;
      if (sent + received > before) child.stdin.write('!');
    };
    child.stdout.on('data', step);
    const closed = once(child, 'close');
    step();
    const [code] = await closed;
    step();
    const all = { code: 0, complaint: '', sent: COUNT, received: COUNT, wrong: 0 };
    expect({ code, complaint, sent, received, wrong }).toEqual(all);
    expect([takes.queued, puts.queued]).toEqual([0, 0]);
  });
});
