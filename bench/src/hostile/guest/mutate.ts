import { type Abi, BlkifOp, SEGMENT_WORDS } from '@xenpv/blkif';
import type { Random } from '../../program/random.js';
import type { Terms } from '../oracle/meaning.js';
import type { Sent } from '../oracle/sent.js';
import type { GuestPages } from './pages.js';

interface Parts {
  readonly random: Random;
  readonly pages: GuestPages;
  readonly abi: Abi;
  readonly terms: Terms;
}

/** Changes one field of a request, or a few, to what a frontend should not send, or to something else that it may. */
export function mutate(sent: Sent, words: Int32Array, parts: Parts): void {
  sent.mutated = true;
  do mutateOne(sent, words, parts);
  while (parts.random.oneIn(5));
}

function mutateOne(sent: Sent, words: Int32Array, parts: Parts): void {
  const { random, abi, terms } = parts;
  switch (random.below(8)) {
    case 0:
      // Its length must not become a reference.
      if ((words[0] & 0xff) === BlkifOp.discard) words[abi.discardSectorsWord] |= 0x40000000;
      words[0] = (words[0] & ~0xff) | random.pick([0, 1, 2, 3, 4, 5, 6, 7, 8, 99, 127, 128, 254, 255]);
      sent.kind += ', another operation';
      break;
    case 1:
      // The number of segments, or the operation inside, or the flag of a discard.
      words[0] = (words[0] & ~0xff00) | (random.pick([0, 1, 2, 3, 5, 6, 11, 12, 13, 64, 128, 255]) << 8);
      sent.kind += ', another count or inner operation';
      break;
    case 2:
    case 3: {
      const sector = oddSector(random, terms.sectors);
      words[abi.sectorWord] = sector[0];
      words[abi.sectorWord + 1] = sector[1];
      sent.kind += ', another sector';
      break;
    }
    case 4:
      if ((words[0] & 0xff) === BlkifOp.indirect) {
        const most = terms.maxIndirectSegments;
        words[0] = (words[0] & 0xffff) | (random.pick([0, 1, most, most + 1, 512, 513, 4096, 4097, 65535]) << 16);
        sent.kind += ', another number of segments';
      } else if ((words[0] & 0xff) === BlkifOp.discard) {
        const [low, high] = oddSector(random, terms.sectors);
        words[abi.discardSectorsWord] = low;
        words[abi.discardSectorsWord + 1] = high;
        sent.kind += ', another length';
      }
      break;
    case 5:
      if (sent.list >= 0) words[abi.indirectGrefsWord] = oddRef(sent, parts);
      sent.kind += ', another page of segments';
      break;
    default:
      mutateSegment(sent, words, parts);
  }
}

function mutateSegment(sent: Sent, words: Int32Array, parts: Parts): void {
  const { random, pages, abi } = parts;
  if (sent.pageCount === 0) return;
  const segment = random.below(sent.pageCount);
  const target = sent.list >= 0 ? pages.words[sent.list] : words;
  const at = (sent.list >= 0 ? 0 : abi.segmentsWord) + segment * SEGMENT_WORDS;
  if (random.oneIn(2)) {
    target[at] = oddRef(sent, parts);
    sent.kind += ', another page';
  } else {
    const first = random.pick([0, 1, 6, 7, 8, 255, random.below(8)]);
    const last = random.pick([0, 6, 7, 7, 8, 9, 127, 128, 255, random.below(8)]);
    target[at + 1] = first | (last << 8) | (random.below(2 ** 16) << 16);
    sent.kind += ', other sectors of a page';
  }
}

/** A reference of nobody, of a page that may not be written, of another domain's, or of one of its own pages once more. */
export function oddRef(sent: Sent, { random, pages }: Pick<Parts, 'random' | 'pages'>): number {
  switch (random.below(4)) {
    case 0:
      return random.pick([0, 1, 7, 0x7ffffff0, -1, -0x80000000, 40_000, 0xfffff]);
    case 1:
      return sent.pageCount > 0 ? pages.refs[sent.pages[random.below(sent.pageCount)]] : 0;
    default:
      return pages.refs[random.pick(pages.odd)];
  }
}

/** A sector number as its two words: at the ends of the disk, and of what numbers can be. */
function oddSector(random: Random, sectors: number): [number, number] {
  switch (random.below(6)) {
    case 0:
      return [sectors - random.below(16), 0];
    case 1:
      return [sectors + random.below(2), 0];
    case 2:
      return [random.below(sectors), 0];
    case 3:
      // Bytes of it wrap: 2^55 sectors are 2^64 bytes.
      return [random.below(16), random.pick([1 << 23, 1 << 22, 1 << 24, 1 << 21])];
    case 4:
      return [random.pick([-1, -8, 0, 1]), random.pick([-1, 0x7fffffff, -0x80000000, 1, 0x1fffff])];
    default:
      return [random.below(2 ** 32) | 0, random.below(2 ** 32) | 0];
  }
}
