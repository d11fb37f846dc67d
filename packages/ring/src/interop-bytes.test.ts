import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { needs } from '@xenpv/test-support';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type ByteReader,
  ByteRing,
  type ByteRingLayout,
  type ByteWriter,
  CONSOLE_RING,
  DISPLAY_EVENT_PAGE,
  FLEX_INTERFACE,
  FlexRing,
  FRAMEBUFFER_PAGE,
  flexRingSize,
  initFlexRing,
  KEYBOARD_PAGE,
  PVCALLS_ERRORS,
  SOUND_EVENT_PAGE,
  XENSTORE_RING,
} from './index.js';

/*
 * Our byte streams and layouts against Xen's own headers: what these say of every offset, and programs that use their
 * structures, macros and functions at the other end of a stream.
 */

const COUNT = 50_000;
const PAGE = 4096;

type Kind = 'console' | 'xenstore' | '9pfs' | 'pvcalls';
type Side = 'guest' | 'backend';

const byteOf = (number: number) => Math.imul(number, 2654435761) >>> 24;

needs('Linux', 'cc', 'xenctrl.h').describe("against Xen's headers", () => {
  let folder: string;
  let map: (path: string, bytes: number) => ArrayBuffer;
  const children: ChildProcess[] = [];

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'bytes-'));
    const source = (name: string) => fileURLToPath(new URL(name, import.meta.url));
    for (const [name, file, ...flags] of [
      ['bytes', 'bytes'],
      ['pvcalls', 'bytes', '-DPVCALLS'],
      ['layout', 'layout'],
    ]) {
      execFileSync('cc', ['-O2', '-Wall', ...flags, '-o', join(folder, name!), source(`interop-${file}.c`)]);
    }
    execFileSync('cc', ['-O2', '-shared', '-fPIC', '-o', join(folder, 'map.node'), source('interop-map.c')]);
    map = createRequire(import.meta.url)(join(folder, 'map.node'));
  }, 60_000);

  afterAll(() => {
    for (const child of children) child.kill();
    rmSync(folder, { recursive: true });
  });

  it('has their layouts', () => {
    const text = execFileSync(join(folder, 'layout'), { encoding: 'utf8' });
    const theirs = text
      .trim()
      .split('\n')
      .map((line) => /^(.*) (\d+)$/.exec(line)!.slice(1, 3));
    const { input, output } = PVCALLS_ERRORS;
    const ours = flat({
      console: CONSOLE_RING,
      xenstore: XENSTORE_RING,
      '9pfs': FLEX_INTERFACE,
      pvcalls: { ...FLEX_INTERFACE, 'input error': input, 'output error': output },
      'flex bytes of order 3': flexRingSize(3),
      keyboard: KEYBOARD_PAGE,
      framebuffer: FRAMEBUFFER_PAGE,
      display: DISPLAY_EVENT_PAGE,
      sound: SOUND_EVENT_PAGE,
    });
    expect(Object.fromEntries(theirs)).toEqual(ours);
  });

  /** The memory of a stream, with all indices at `start`, mapped here. */
  function memoryOf(name: string, kind: Kind, order: number, start: number): { file: string; memory: Uint8Array } {
    const file = join(folder, name);
    const rings = PAGES[kind];
    const bytes = rings ? PAGE : PAGE + (PAGE << order);
    writeFileSync(file, Buffer.alloc(bytes));
    const memory = new Uint8Array(map(file, bytes));
    if (!rings) initFlexRing(memory.subarray(0, PAGE), order, []);
    const view = new DataView(memory.buffer);
    for (const { consumer, producer } of Object.values(rings ?? flexIndices)) {
      view.setUint32(consumer, start, true);
      view.setUint32(producer, start, true);
    }
    return { file, memory };
  }

  function theirs(kind: Kind, side: Side, file: string, bytes: number): ChildProcess {
    const args = [PAGES[kind] ? kind : 'flex', side, file, String(bytes), String(COUNT)];
    const child = spawn(join(folder, kind === 'pvcalls' ? 'pvcalls' : 'bytes'), args, {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    children.push(child);
    // It may have all it wanted, and be gone, when the last event comes.
    child.stdin?.on('error', () => {});
    return child;
  }

  const cases = [
    ['console', 'guest', 0, 0],
    ['console', 'backend', 0, 2 ** 32 - 5000],
    ['xenstore', 'guest', 0, 2 ** 32 - 1],
    ['xenstore', 'backend', 0, 2 ** 31 - 100],
    ['9pfs', 'guest', 0, 2 ** 31 - 100],
    ['9pfs', 'backend', 3, 2 ** 32 - 1],
    ['pvcalls', 'guest', 1, 2 ** 32 - 5000],
    ['pvcalls', 'backend', 0, 0],
  ] as const;

  it.each(cases)('%s: ours is the %s, order %i, from %i', async (kind, side, order, start) => {
    const { file, memory } = memoryOf(`${kind}-${side}`, kind, order, start);
    const child = theirs(kind, side === 'guest' ? 'backend' : 'guest', file, memory.length);
    let complaint = '';
    child.stderr?.on('data', (text) => (complaint += text));
    const end = endOf(kind, side, memory);
    let [sent, received] = [0, 0];
    const step = () => {
      const got = end.reader.readAll();
      if (got === undefined) throw new Error('an impossible index');
      for (const byte of got) if (byte !== byteOf(received++)) throw new Error(`byte ${received - 1} is wrong`);
      const length = Math.min(end.writer.writable, 1 + (received % 1500), COUNT - sent);
      const put = end.writer.write(Uint8Array.from({ length }, (_, i) => byteOf(sent + i)));
      expect(put).toBe(length);
      sent += put;
      if (got.length + put > 0) child.stdin?.write('!');
    };
    const done = new Promise<void>((resolve, reject) => {
      const guarded = () => {
        try {
          step();
          if (sent === COUNT && received === COUNT) resolve();
        } catch (error) {
          reject(error);
        }
      };
      child.stdout?.on('data', guarded);
      child.on('close', (code) => (code === 0 ? guarded() : reject(new Error(`C: ${complaint}`))));
      guarded();
    });
    const closed = once(child, 'close');
    await done;
    expect((await closed)[0]).toBe(0);
    expect([sent, received]).toEqual([COUNT, COUNT]);
  });
});

/** The pages that have their rings in them, `input` being to the guest; those of the others are flex rings. */
const PAGES: Partial<Record<Kind, Record<'input' | 'output', ByteRingLayout>>> = {
  console: CONSOLE_RING,
  xenstore: { input: XENSTORE_RING.responses, output: XENSTORE_RING.requests },
};
const flexIndices = { input: FLEX_INTERFACE.input, output: FLEX_INTERFACE.output };

function endOf(kind: Kind, side: Side, memory: Uint8Array): { reader: ByteReader; writer: ByteWriter } {
  const rings = PAGES[kind];
  if (!rings) {
    const end = side === 'guest' ? 'front' : 'back';
    return new FlexRing(memory.subarray(0, PAGE), memory.subarray(PAGE), end);
  }
  const [input, output] = [new ByteRing(memory, rings.input), new ByteRing(memory, rings.output)];
  return side === 'guest' ? { reader: input, writer: output } : { reader: output, writer: input };
}

/** `{ a: { b: 1 } }` as `{ 'a b': '1' }`. */
function flat(value: object, prefix = ''): Record<string, string> {
  return Object.assign(
    {},
    ...Object.entries(value).map(([name, inner]) =>
      typeof inner === 'object' ? flat(inner, `${prefix}${name} `) : { [`${prefix}${name}`]: String(inner) },
    ),
  );
}

describe('a stream of a flex ring', () => {
  it('can be given away by its end', () => {
    const [intf, data] = [new Uint8Array(PAGE), new Uint8Array(PAGE)];
    initFlexRing(intf, 0, [9]);
    const { writer } = new FlexRing(intf, data, 'front');
    const { reader } = new FlexRing(intf, data, 'back');
    expect(writer.write(Uint8Array.of(1, 2, 3))).toBe(3);
    expect([...reader.readAll()!]).toEqual([1, 2, 3]);
    expect([reader.readable, writer.writable]).toEqual([0, 2048]);
  });
});
