import { FrontRing } from '@xenpv/ring';
import type { XenProvider } from '@xenpv/xen-sys';
import { FrontendDevice } from '@xenpv/xenbus';
import type { XenstoreClient } from '@xenpv/xenstore';
import { SLOT_WORDS, Slot, TYPE } from './protocol.js';

/** The guest's end, for tests. It has one page for bytes, `page`, and lends it under `pageRef`. */
export class EntropyFrontend {
  readonly device: FrontendDevice<Shared>;
  #lastId = 0;

  private constructor(device: FrontendDevice<Shared>) {
    this.device = device;
  }

  static async connect(provider: XenProvider, store: XenstoreClient, devid = 0): Promise<EntropyFrontend> {
    const device = await FrontendDevice.connect<Shared>({
      provider,
      store,
      type: TYPE,
      devid,
      publish: ({ link }) => {
        const lent = link.grant();
        const data = link.grant();
        const ring = new FrontRing(lent.bytes, SLOT_WORDS * 4);
        const waiting = new Map<number, (status: number) => void>();
        const channel = link.bind(() => takeAnswers(ring, waiting));
        return {
          keys: { 'ring-ref': lent.refs[0], 'event-channel': channel.port },
          shared: { ring, ringPage: lent.bytes, page: data.bytes, pageRef: data.refs[0], waiting, channel },
        };
      },
    });
    return new EntropyFrontend(device);
  }

  /** Asks for `length` bytes in the page, or wherever `gref` says. Gives the status; rejects when the connection ends. */
  async ask(length: number, gref = this.device.shared.pageRef): Promise<number> {
    const { ring, waiting, channel } = this.device.shared;
    const id = ++this.#lastId;
    const answered = new Promise<number>((resolve) => waiting.set(id, resolve));
    ring.putRequest(Int32Array.of(id, gref, length), 0, Slot.status);
    if (ring.pushRequests()) channel.notify();
    const lost = this.device.disconnected.then((why) => Promise.reject(why ?? new Error('this end closed it')));
    return Promise.race([answered, lost]);
  }
}

interface Shared {
  readonly ring: FrontRing;
  readonly ringPage: Buffer;
  readonly page: Buffer;
  readonly pageRef: number;
  /** By the id of the request. */
  readonly waiting: Map<number, (status: number) => void>;
  readonly channel: { notify(): boolean };
}

function takeAnswers(ring: FrontRing, waiting: Shared['waiting']): void {
  const slot = new Int32Array(SLOT_WORDS);
  do {
    const count = ring.harvest();
    if (count < 0) throw new Error('the backend answers more than was asked');
    for (let i = 0; i < count; i++) {
      ring.takeResponse(slot, 0, SLOT_WORDS);
      const [id = 0, , , status = 0] = slot;
      const answer = waiting.get(id);
      if (answer === undefined) throw new Error(`the answer ${id} is to no request, or the second one`);
      waiting.delete(id);
      answer(status);
    }
  } while (ring.finalCheck());
}
