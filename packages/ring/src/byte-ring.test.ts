import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ByteRing, type ByteRingLayout, CONSOLE_RING, XENSTORE_RING } from './index.js';
import { flexLayout } from './layout.js';

const PAGE = 4096;

/** Every direction of every layout, and the bytes of its data area if that is not in the page. */
const directions: [string, ByteRingLayout, number?][] = [
  ['xenstore requests', XENSTORE_RING.requests],
  ['xenstore responses', XENSTORE_RING.responses],
  ['console input', CONSOLE_RING.input],
  ['console output', CONSOLE_RING.output],
  ['flex input', flexLayout(8192).input, 8192],
  ['flex output', flexLayout(8192).output, 8192],
  ['two bytes', flexLayout(4).output, 4],
];

function ends(layout: ByteRingLayout, dataBytes: number | undefined, at = 0) {
  // Not at the start of its buffer, as a page among others.
  const page = new Uint8Array(new SharedArrayBuffer(3 * PAGE), PAGE, PAGE);
  const data = dataBytes === undefined ? page : new Uint8Array(new SharedArrayBuffer(dataBytes));
  const view = new DataView(page.buffer, page.byteOffset);
  view.setInt32(layout.consumer, at | 0, true);
  view.setInt32(layout.producer, at | 0, true);
  const end = () => new ByteRing(page, layout, data);
  return { page, data, view, writer: end(), reader: end() };
}

function snapshot(...parts: Uint8Array[]): Buffer {
  return Buffer.concat(parts);
}

it('has the offsets of struct xenstore_domain_interface and struct xencons_interface', () => {
  const { requests, responses, serverFeatures, error } = XENSTORE_RING;
  expect([requests.data, responses.data]).toEqual([0, 1024]);
  expect([requests.consumer, requests.producer, responses.consumer, responses.producer]).toEqual([
    2048, 2052, 2056, 2060,
  ]);
  // `connection` is between them.
  expect([serverFeatures, error]).toEqual([2064, 2072]);
  const { input, output } = CONSOLE_RING;
  expect([input.bytes, output.bytes, output.data]).toEqual([1024, 2048, 1024]);
  expect([input.consumer, input.producer, output.consumer, output.producer]).toEqual([3072, 3076, 3080, 3084]);
});

describe.each(directions)('%s', (_, layout, dataBytes) => {
  it('puts bytes where the layout says, and nowhere else', () => {
    const { page, data, view, writer, reader } = ends(layout, dataBytes, -1);
    const before = snapshot(page, data);
    expect(writer.write(Uint8Array.of(1, 2))).toBe(2);
    // Index -1 is the last byte of the ring, the next one its first.
    expect([data[layout.data + layout.bytes - 1], data[layout.data]]).toEqual([1, 2]);
    expect([view.getUint32(layout.producer, true), view.getInt32(layout.consumer, true)]).toEqual([1, -1]);
    expect([...(reader.readAll() ?? [])]).toEqual([1, 2]);
    expect(view.getUint32(layout.consumer, true)).toBe(1);
    data[layout.data + layout.bytes - 1] = 0;
    data[layout.data] = 0;
    view.setInt32(layout.consumer, -1, true);
    view.setInt32(layout.producer, -1, true);
    expect(snapshot(page, data).equals(before)).toBe(true);
  });

  it('is one stream, across 2^32 and full', () => {
    const at = fc.oneof(fc.constant(0), fc.integer({ min: 2 ** 32 - layout.bytes, max: 2 ** 32 - 1 }));
    const amount = fc.nat(2 * layout.bytes);
    const step = fc.record({ write: amount, from: fc.nat(8), read: fc.option(amount, { nil: undefined }) });
    fc.assert(
      fc.property(at, fc.array(step, { maxLength: 20, size: 'max' }), (at, steps) => {
        const { writer, reader } = ends(layout, dataBytes, at);
        const flight: number[] = [];
        let byte = 0;
        for (const { write, from, read } of steps) {
          const source = Uint8Array.from({ length: from + write }, () => byte++);
          const written = writer.write(source, from);
          expect(written).toBe(Math.min(layout.bytes - flight.length, write));
          flight.push(...source.subarray(from, from + written));
          expect([reader.readable, writer.writable]).toEqual([flight.length, layout.bytes - flight.length]);
          const target = new Uint8Array(read ?? 0);
          const bytes = read === undefined ? reader.readAll() : target.subarray(0, reader.read(target));
          expect([...(bytes ?? [-1])]).toEqual(flight.splice(0, read ?? flight.length));
        }
      }),
      { numRuns: 30 },
    );
  });

  it('reports an impossible index, and touches nothing', () => {
    const beyond = fc.integer({ min: layout.bytes + 1, max: 2 ** 32 - 1 });
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), beyond, fc.boolean(), (at, ahead, producer) => {
        const { page, data, view, writer, reader } = ends(layout, dataBytes, at);
        // A producer that is too far ahead, or a consumer that has overtaken it.
        if (producer) view.setInt32(layout.producer, (at + ahead) | 0, true);
        else view.setInt32(layout.consumer, (at - ahead) | 0, true);
        const before = snapshot(page, data);
        expect([reader.readable, reader.read(new Uint8Array(8)), reader.readAll()]).toEqual([-1, -1, undefined]);
        expect([writer.writable, writer.write(new Uint8Array(8))]).toEqual([-1, -1]);
        expect(snapshot(page, data).equals(before)).toBe(true);
      }),
      { numRuns: 50 },
    );
  });

  it('refuses memory that it cannot be in', () => {
    const { page, data } = ends(layout, dataBytes);
    const wrong = expect.objectContaining({ code: 'ERR_RING_MEMORY' });
    expect(() => new ByteRing(page.subarray(1), layout, data)).toThrow(wrong);
    expect(() => new ByteRing(page.subarray(0, layout.producer), layout, data)).toThrow(wrong);
    expect(() => new ByteRing(page, { ...layout, bytes: layout.bytes + 1 }, data)).toThrow(wrong);
    expect(() => new ByteRing(page, layout, data.subarray(0, layout.data + layout.bytes - 1))).toThrow(wrong);
  });
});
