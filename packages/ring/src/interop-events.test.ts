import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { needs } from '@xenpv/test-support';
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  DISPLAY_EVENT_PAGE,
  type EventPageLayout,
  EventRing,
  FRAMEBUFFER_PAGE,
  KEYBOARD_PAGE,
  SOUND_EVENT_PAGE,
} from './index.js';

/* Our events against programs that use the structures and macros of Xen's headers at the other end of the page. */

const COUNT = 5000;
/** Of events that go one at a time, for each costs a turn of both processes. */
const COUNT_ALONE = 200;
const PAGE = 4096;
const LAST_WORD = 9;

/** In place of a direction that a page has not: it stays empty. */
const NONE: EventPageLayout = { events: 64, eventBytes: 4, length: 1, consumer: 8, producer: 12 };

interface Device {
  readonly input: EventPageLayout;
  /** There are events to the guest only where it is left out. */
  readonly output?: EventPageLayout;
  /** The words of event `number`: as the header has it, or any where it defines none. */
  readonly words: (to: 'guest' | 'backend', number: number) => Record<number, number>;
}

/** What events of displays and sound have in common: an id of 16 bits, and a number of 64 bits at word 2. */
const numbered = (number: number) => ({ 0: number & 0xffff, 2: number, 3: ~number });

const DEVICES: Record<string, Device> = {
  // XENKBD_TYPE_POS is 4. From the guest, nothing is defined yet.
  keyboard: {
    ...KEYBOARD_PAGE,
    words: (to, number) =>
      to === 'guest' ? { 0: 4, 1: number, 2: ~number, 3: 7 } : { 0: number, [LAST_WORD]: ~number },
  },
  // XENFB_TYPE_REFRESH_PERIOD is 1, XENFB_TYPE_RESIZE is 3.
  framebuffer: {
    ...FRAMEBUFFER_PAGE,
    words: (to, number) => (to === 'guest' ? { 0: 1, 1: number } : { 0: 3, 1: number, 2: ~number, 3: 5, 4: 32, 5: -9 }),
  },
  display: { ...DISPLAY_EVENT_PAGE, words: (_to, number) => numbered(number) },
  sound: { ...SOUND_EVENT_PAGE, words: (_to, number) => numbered(number) },
};

needs('Linux', 'cc', 'xenctrl.h').describe("events against Xen's headers", () => {
  let folder: string;
  let map: (path: string, bytes: number) => ArrayBuffer;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'events-'));
    const source = (name: string) => fileURLToPath(new URL(name, import.meta.url));
    for (const name of Object.keys(DEVICES)) {
      const flags = ['-O2', '-Wall', `-D${name.toUpperCase()}`];
      execFileSync('cc', [...flags, '-o', join(folder, name), source('interop-events.c')]);
    }
    execFileSync('cc', ['-O2', '-shared', '-fPIC', '-o', join(folder, 'map.node'), source('interop-map.c')]);
    map = createRequire(import.meta.url)(join(folder, 'map.node'));
  }, 60_000);
  afterAll(() => rmSync(folder, { recursive: true }));

  // Where indices begin anew, a place comes twice within a full ring, by the headers: 2^32 is no multiple of their
  // lengths. So one event at a time goes there.
  const cases = Object.keys(DEVICES).flatMap((name) => [
    { name, side: 'guest', start: 2 ** 31 - 30, most: Number.POSITIVE_INFINITY } as const,
    { name, side: 'backend', start: 0, most: Number.POSITIVE_INFINITY } as const,
    { name, side: 'guest', start: 2 ** 32 - 1, most: 1 } as const,
    { name, side: 'backend', start: 2 ** 32 - 30, most: 1 } as const,
  ]);

  it.each(cases)('$name: ours is the $side, from index $start', async ({ name, side, start, most }) => {
    const { input, output, words } = DEVICES[name]!;
    const file = join(folder, `${name}-${side}-${start}`);
    writeFileSync(
      file,
      new Uint8Array(Uint32Array.from({ length: PAGE / 4 }, (_, word) => (word < (output ? 4 : 2) ? start : 0)).buffer),
    );
    const page = new Uint8Array(map(file, PAGE));
    const other = side === 'guest' ? 'backend' : 'guest';
    const count = most === 1 ? COUNT_ALONE : COUNT;
    const toGuest = { ring: new EventRing(page, input), count };
    const fromGuest = { ring: new EventRing(page, output ?? NONE), count: output ? count : 0 };
    const [takes, puts] = side === 'guest' ? [toGuest, fromGuest] : [fromGuest, toGuest];
    const eventOf = (to: 'guest' | 'backend', number: number, bytes: number) => {
      const event = new Int32Array(bytes / 4);
      for (const [word, value] of Object.entries(words(to, number))) event[Number(word)] = value;
      return new Uint8Array(event.buffer);
    };
    const limit = String(Math.min(most, 2 ** 31));
    const child = spawn(join(folder, name), [other, file, String(count), limit], { stdio: 'pipe' });
    // It may have all it wanted, and be gone, when the last event comes.
    child.stdin.on('error', () => {});
    let complaint = '';
    child.stderr.on('data', (text) => (complaint += text));
    const event = new Uint8Array(takes.ring.eventBytes);
    let [sent, received, wrong] = [0, 0, 0];
    const step = () => {
      const before = sent + received;
      while (takes.ring.take(event)) {
        if (Buffer.compare(event, eventOf(side, received++, event.length)) !== 0) wrong++;
      }
      while (
        sent < puts.count &&
        puts.ring.queued < most &&
        puts.ring.put(eventOf(other, sent, puts.ring.eventBytes))
      ) {
        sent++;
      }
      if (sent + received > before) child.stdin.write('!');
    };
    child.stdout.on('data', step);
    const closed = once(child, 'close');
    step();
    const [code] = await closed;
    step();
    const all = { code: 0, complaint: '', sent: puts.count, received: takes.count, wrong: 0 };
    expect({ code, complaint, sent, received, wrong }).toEqual(all);
    expect([takes.ring.queued, puts.ring.queued]).toEqual([0, 0]);
  });
});
