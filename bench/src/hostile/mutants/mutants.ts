/**
 * Defects that a backend could have, planted in what the real one stands on: the ring, the hypervisor, the storage, xenstore.
 * Each must be noticed. One that nobody notices is a hole in the oracle.
 */
import { channel } from 'node:diagnostics_channel';
import { BlkifOp } from '@xenpv/blkif';
import { BlockOp } from '@xenpv/blockdev';
import { SECTORS } from '../host/setup.js';
import { answeredTwice, inBackRing, requestsChanged, responsesChanged } from './back-ring.js';
import { inEngine } from './engine.js';
import { inEventChannels, inGrantTable, segmentsOf } from './hypervisor.js';
import { leaks } from './leaks.js';
import type { Mutant } from './planted.js';
import { readTwice } from './read-twice.js';
import { writtenLater } from './written-later.js';

const PAGE = 4096;
const SECTOR = 512;
const SPARSE = 20;
/** Of what is noticed by nothing else than that. */
const SOON = { patienceSeconds: 1 };

const answers: Mutant[] = [
  {
    name: 'an id is answered twice',
    plant: answeredTwice,
    // The ring itself says so when the last one is answered.
    noticed: /not in flight|a response without a request/,
    fixed: SOON,
  },
  {
    name: 'the padding of an answer is not zero',
    plant: () => responsesChanged((words) => void (words[2] |= 0x4200)),
    noticed: /padding that is not zero/,
  },
  {
    name: 'the rest of a slot is written to',
    plant: () =>
      inBackRing('putResponse', (put) => (ring, source, at, words) => {
        const slot = new Int32Array(ring.slotWords);
        slot.set(source.subarray(at, at + words));
        put(slot, 0, ring.slotWords);
      }),
    noticed: /more than an answer was written/,
  },
  {
    name: 'what failed is answered as done',
    plant: () => responsesChanged((words) => void (words[2] &= 0xffff)),
    noticed: /status 0; expected -/,
  },
  {
    name: 'what is not offered is answered as failed',
    plant: () => responsesChanged((words) => void (words[2] >> 16 === -2 && (words[2] |= 0xffff0000))),
    noticed: /status -1; expected -2/,
  },
  {
    name: 'an indirect request is answered with another operation',
    plant: () =>
      responsesChanged((words, n) => void (n % SPARSE === 0 && (words[2] = (words[2] & ~0xff) | BlkifOp.indirect))),
    noticed: /operation 6; expected/,
  },
];

const requests: Mutant[] = [
  {
    name: 'a slot is taken twice, and the next one never',
    plant: () => {
      let before = new Int32Array(28);
      return requestsChanged((words, _layout, n) => {
        if (n === 40) words.set(before.subarray(0, words.length));
        before = words.slice();
      });
    },
    noticed: /not in flight|does not go on/,
    fixed: SOON,
  },
  {
    name: 'the last sector of a segment is one too low',
    plant: () => requestsChanged((words, { segments }) => moveLastSector(words, segments, -1)),
    noticed: /wrong data|is wrong/,
  },
  {
    name: 'the last sector of a segment is one too high',
    plant: () => requestsChanged((words, { segments }) => moveLastSector(words, segments, 1)),
    noticed: /written to|wrong data|is wrong|status -1; expected 0/,
  },
  {
    name: 'sector numbers wrap',
    plant: () => requestsChanged((words, { sector }) => void (words[sector + 1] &= 0x1fffff)),
    noticed: /status 0; expected -1/,
    requests: 4000,
  },
  {
    name: 'what is beyond the end of the disk is let through',
    plant: () =>
      requestsChanged((words, { sector }) => {
        if (words[sector + 1] === 0 && words[sector] >= SECTORS) words[sector] -= 128;
      }),
    noticed: /status 0; expected -1/,
    requests: 4000,
  },
  {
    name: 'the number of segments of an indirect request is not checked',
    plant: () =>
      requestsChanged((words) => {
        const tooMany = (words[0] & 0xff) === BlkifOp.indirect && words[0] >>> 16 > 64;
        if (tooMany) words[0] = (words[0] & 0xffff) | (1 << 16);
      }),
    noticed: /status 0; expected -1/,
    requests: 6000,
  },
  {
    name: 'the list of segments is read twice',
    plant: readTwice,
    noticed: /wrong data|was written to|status/,
    fixed: { races: true },
    // One round in three draws a race that shows it.
    seed: 13,
    requests: 8000,
  },
];

/** Of the first segment of a direct read or write that has room for it. */
function moveLastSector(words: Int32Array, segments: number, by: number): void {
  if ((words[0] & 0xff) > BlkifOp.write) return;
  const first = words[segments + 1] & 0xff;
  const last = ((words[segments + 1] >>> 8) & 0xff) + by;
  if (last >= first && last < 8) words[segments + 1] = (words[segments + 1] & ~0xff00) | (last << 8);
}

const progress: Mutant[] = [
  {
    name: 'a ring stops for ever',
    plant: () => {
      let n = 0;
      return inBackRing(
        'finalCheck',
        (check) =>
          (_ring, ...args) =>
            ++n > 30 ? false : check(...args),
      );
    },
    noticed: /does not go on|a data plane rests/,
    fixed: SOON,
  },
  {
    name: 'a request that comes while others are in flight is overlooked',
    plant: () => {
      let n = 0;
      return inBackRing('harvest', (harvest) => () => {
        const count = harvest();
        return count > 0 && ++n > 20 ? count - 1 : count;
      });
    },
    noticed: /does not go on|a data plane rests/,
    fixed: SOON,
  },
  {
    name: 'an event is not sent',
    plant: () => {
      let n = 0;
      return inEventChannels((inner) => ({ notify: (port) => (++n > 30 ? 0 : inner.notify(port)) }));
    },
    noticed: /does not go on/,
    fixed: SOON,
  },
  {
    name: 'a guest is starved',
    plant: () =>
      inEngine((operation, target) => {
        if (target === 'disk-1') operation.after = 2000;
      }),
    noticed: /starved/,
    // Whatever else the machine does.
    fixed: { victimMs: 50 },
    requests: 200,
  },
  {
    name: 'a producer index that is impossible is not noticed',
    plant: () => inBackRing('harvest', (harvest) => () => Math.max(0, harvest())),
    noticed: /waits for the backend to stop|a data plane rests|turn/,
    fixed: { ...SOON, lives: 10, ends: ['runaway'] },
    requests: 400,
  },
  {
    name: 'what a guest sends is a line in the log each time',
    plant: () =>
      requestsChanged((words) => {
        if ((words[0] & 0xff) > BlkifOp.write) channel('xen-block:request:refused').publish({});
      }),
    noticed: /lines in the log/,
    requests: 3000,
  },
];

const memory: Mutant[] = [
  {
    name: 'more is written than was granted for it',
    plant: () =>
      inGrantTable((inner) => ({
        copy: (batch) => {
          for (const segment of segmentsOf(batch)) {
            const length = segment.length + SECTOR;
            if (segment.direction === 'toGuest' && segment.offset + length <= PAGE) segment.change({ length });
          }
          return inner.copy(batch);
        },
      })),
    noticed: /was written to after its segment|was written to/,
  },
  {
    name: 'a read goes to the next page',
    plant: () => {
      let n = 0;
      return inGrantTable((inner) => ({
        copy: (batch) => {
          const read = segmentsOf(batch).find(({ direction }) => direction === 'toGuest');
          if (read && ++n % SPARSE === 0) read.change({ ref: read.ref + 1 });
          return inner.copy(batch);
        },
      }));
    },
    noticed: /wrong data|was written to|status -1/,
  },
  {
    name: 'a read is answered before its data is there',
    plant: () => {
      let n = 0;
      return inGrantTable((inner) => ({
        copy: (batch) => {
          const reads = batch.count > 0 && segmentsOf(batch).every(({ direction }) => direction === 'toGuest');
          return reads && ++n % SPARSE === 0 ? 0 : inner.copy(batch);
        },
      }));
    },
    noticed: /wrong data/,
  },
  {
    name: 'a write is done with what was in the buffer before',
    plant: () => {
      let n = 0;
      return inGrantTable((inner) => ({
        copy: (batch) => {
          const writes =
            batch.count > 0 && segmentsOf(batch).every((one) => one.direction === 'fromGuest' && one.length >= SECTOR);
          return writes && ++n % SPARSE === 0 ? 0 : inner.copy(batch);
        },
      }));
    },
    noticed: /wrong data|is wrong/,
  },
  {
    name: 'a page of a write is written to',
    plant: () =>
      inGrantTable((inner) => ({
        copy: (batch) => {
          const result = inner.copy(batch);
          const write = segmentsOf(batch).find(({ direction, length }) => direction === 'fromGuest' && length === PAGE);
          if (write) {
            const mapping = inner.map(write.domid, Uint32Array.of(write.ref), { writable: true });
            new Uint8Array(mapping.buffer, mapping.offsets[0], PAGE)[1000]++;
            inner.unmap(mapping);
          }
          return result;
        },
      })),
    noticed: /was written to/,
  },
  {
    name: 'a page is written to after the end of its connection',
    plant: writtenLater,
    noticed: /after the end of its connection/,
    requests: 200,
  },
];

const storage: Mutant[] = [
  {
    name: 'a read that the storage never did shows what another request left',
    plant: () => inEngine((operation, _target, n) => pretend(operation, BlockOp.read, n % SPARSE === 0)),
    noticed: /wrong data/,
  },
  {
    name: 'a write is answered and not done',
    plant: () => inEngine((operation, _target, n) => pretend(operation, BlockOp.write, n % SPARSE === 0)),
    noticed: /wrong data|is wrong/,
  },
  {
    name: 'a write goes to another sector',
    plant: () =>
      inEngine((operation) => {
        if (operation.op === BlockOp.write && operation.offset > 0) operation.offset -= SECTOR;
      }),
    noticed: /wrong data|is wrong/,
  },
  {
    name: 'a discard takes more than was asked for',
    plant: () =>
      inEngine((operation) => {
        if (operation.op === BlockOp.discard && operation.offset > 0) operation.offset -= PAGE;
      }),
    noticed: /wrong data|is wrong/,
  },
  {
    name: 'a flush is ignored',
    plant: () => inEngine((operation) => pretend(operation, BlockOp.flush, true)),
    noticed: /wrong data|is wrong/,
    fixed: { engine: 'power-cut', lives: 3, ends: [] },
  },
  {
    name: 'a barrier leaves its data in the cache',
    plant: () =>
      inEngine((operation) => {
        if (operation.op === BlockOp.writeFua) operation.op = BlockOp.write;
      }),
    noticed: /wrong data|is wrong/,
    fixed: { engine: 'power-cut', lives: 40, ends: [] },
    requests: 1200,
  },
];

function pretend(operation: { op: BlockOp; length: number; ends?: number }, op: BlockOp, now: boolean): void {
  if (operation.op === op && now) operation.ends = operation.length;
}

export const MUTANTS: readonly Mutant[] = [...answers, ...requests, ...progress, ...memory, ...storage, ...leaks];
