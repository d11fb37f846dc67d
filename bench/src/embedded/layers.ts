import {
  ABIS,
  BlkifOp,
  RequestWriter,
  requestIdLow,
  requestNrSegments,
  requestOperation,
  requestSector,
  SEGMENT_WORDS,
  segmentFirst,
  segmentGref,
  segmentLast,
} from '@xenpv/blkif';
import { EmulatedHost } from '@xenpv/emulator';
import { BackRing, FrontRing } from '@xenpv/ring';
import { GrantCopyBatch } from '@xenpv/xen-sys';

/** Nanoseconds of one operation, the least of several rounds: the others were disturbed. */
function nanoseconds(rounds: number, operations: number, work: (operations: number) => void): number {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < rounds; round++) {
    const began = performance.now();
    work(operations);
    best = Math.min(best, ((performance.now() - began) * 1e6) / operations);
  }
  return best;
}

/** A request's way through both ends of a ring, in batches of 32, and its response's way back. */
export function measureRingAlone(rounds: number): number {
  const memory = new Uint8Array(new SharedArrayBuffer(4096));
  const front = new FrontRing(memory, 112);
  const back = new BackRing(memory, 112);
  const words = new Int32Array(28);
  return nanoseconds(rounds, 320_000, (operations) => {
    for (let done = 0; done < operations; done += 32) {
      for (let i = 0; i < 32; i++) front.putRequest(words, 0, 28);
      front.pushRequests();
      for (let left = back.harvest(); left > 0; left--) {
        back.takeRequest(words, 0);
        back.putResponse(words, 0, 4);
      }
      back.pushResponses();
      for (let left = front.harvest(); left > 0; left--) front.takeResponse(words, 0, 4);
    }
  });
}

/** Reading every field of a request with 11 segments. */
export function measureDecoding(rounds: number): { nanoseconds: number; checksum: number } {
  const abi = ABIS.x86_64;
  const words = new Int32Array(abi.slotWords);
  const request = new RequestWriter(words, abi);
  request.readWrite(BlkifOp.read, 11, 1, 0, 2048);
  for (let i = 0; i < 11; i++) request.segment(i, i + 8, 0, 7);
  let checksum = 0;
  const least = nanoseconds(rounds, 1_000_000, (operations) => {
    for (let n = 0; n < operations; n++) {
      checksum += requestOperation(words, 0) + requestSector(words, 0, abi) + requestIdLow(words, 0, abi);
      for (let i = 0, at = abi.segmentsWord; i < requestNrSegments(words, 0); i++, at += SEGMENT_WORDS) {
        checksum += segmentGref(words, at) + segmentFirst(words, at) + segmentLast(words, at);
      }
    }
  });
  return { nanoseconds: least, checksum };
}

/** Copying one page from a guest, in batches of 256, by the emulator. */
export async function measureGrantCopy(rounds: number): Promise<number> {
  const host = await EmulatedHost.create();
  const guest = await host.createDomain({ name: 'guest' });
  const pages = guest.provider.openGrantAllocator().allocate(0, 256, { writable: true });
  const table = host.provider(0).openGrantTable();
  const buffer = new SharedArrayBuffer(256 * 4096);
  const address = table.register(buffer);
  const batch = new GrantCopyBatch(256);
  const least = nanoseconds(rounds, 25_600, (operations) => {
    for (let done = 0; done < operations; done += 256) {
      batch.clear();
      for (let i = 0; i < 256; i++) batch.fromGrant(guest.domid, pages.refs[i], 0, address + i * 4096, 4096);
      table.copy(batch);
    }
  });
  table.close();
  await host.close();
  return least;
}
