import { randomFillSync } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { BackRing } from '@xenpv/ring';
import { Errno, GrantCopyBatch, GrantStatus } from '@xenpv/xen-sys';
import type { Link, PvConnection, PvDevice } from '@xenpv/xenbus';
import { type BACKEND_KEYS, type FRONTEND_KEYS, MAX_LENGTH, SLOT_WORDS, Slot } from './protocol.js';

/** Serves one device: fills the pages that a guest names with random bytes. */
export class EntropyDevice implements PvDevice<typeof FRONTEND_KEYS> {
  /** The device is new: say what a frontend may ask for. */
  prepare(): Record<keyof typeof BACKEND_KEYS, number> {
    return { 'max-length': MAX_LENGTH };
  }

  /** A frontend is there, a new one or that of an earlier process: the ring's page says where that one stopped. */
  connect({ keys, link }: PvConnection<typeof FRONTEND_KEYS>) {
    const source = new RandomSource(link);
    const ring = BackRing.attach(link.map(keys['ring-ref'], { writable: true }), SLOT_WORDS * 4);
    const channel = link.bind(keys['event-channel'], async () => {
      do {
        answer(ring, source);
        if (ring.pushResponses()) channel.notify();
        // A guest that asks without end must leave time to the others.
        await setImmediate();
      } while (!link.signal.aborted && ring.finalCheck());
    });
  }
}

/** Answers what is in the ring now, at most a ring full, and publishes nothing yet. */
function answer(ring: BackRing, source: RandomSource): void {
  const count = ring.harvest();
  if (count < 0) throw new Error(`the ring cannot hold the requests up to ${ring.indices.requestsProduced}`);
  const slot = new Uint32Array(SLOT_WORDS);
  const words = new Int32Array(slot.buffer);
  for (let i = 0; i < count; i++) {
    ring.takeRequest(words, 0);
    const { [Slot.gref]: gref = 0, [Slot.length]: length = 0 } = slot;
    slot[Slot.status] = source.fill(gref, length);
    ring.putResponse(words, 0, SLOT_WORDS);
  }
}

/** Copies random bytes into granted pages, so that no page of a request has to be mapped and given back. */
class RandomSource {
  readonly #link: Link;
  readonly #bytes = new Uint8Array(MAX_LENGTH);
  readonly #batch: GrantCopyBatch;

  constructor(link: Link) {
    this.#link = link;
    this.#batch = new GrantCopyBatch(1, link.register(this.#bytes.buffer));
  }

  /** The status of the answer. Nothing that a guest asks for throws. */
  fill(gref: number, length: number): number {
    if (length === 0 || length > MAX_LENGTH) return Errno.EINVAL;
    const { domid, grants } = this.#link;
    randomFillSync(this.#bytes, 0, length);
    this.#batch.clear();
    this.#batch.toGrant(domid, gref, 0, 0, length);
    const failed = grants.copy(this.#batch);
    // What was given away must not be found in this process later.
    this.#bytes.fill(0, 0, length);
    if (failed !== 0) return failed;
    return this.#batch.status(0) === GrantStatus.okay ? 0 : Errno.EFAULT;
  }
}
