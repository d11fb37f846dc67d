import type { XenProvider } from '@xenpv/xen-sys';
import { FrontendDevice } from '@xenpv/xenbus';
import type { XenstoreClient } from '@xenpv/xenstore';
import { Page, TYPE } from './protocol.js';

/** The guest's end, for tests. */
export class VtemplateFrontend {
  readonly device: FrontendDevice<Shared>;

  private constructor(device: FrontendDevice<Shared>) {
    this.device = device;
  }

  static async connect(provider: XenProvider, store: XenstoreClient, devid = 0): Promise<VtemplateFrontend> {
    const device = await FrontendDevice.connect<Shared>({
      provider,
      store,
      type: TYPE,
      devid,
      publish: ({ link }) => {
        const { refs, bytes: page } = link.grant();
        const waiting: (() => void)[] = [];
        const channel = link.bind(() => {
          for (const look of waiting) look();
        });
        const shared = { page, waiting, notify: () => channel.notify() };
        return { keys: { 'page-ref': refs[0], 'event-channel': channel.port }, shared };
      },
    });
    return new VtemplateFrontend(device);
  }

  /** Asks one question after the other. Rejects when the connection ends before the answer. */
  async ask(question: number): Promise<number> {
    const { page, waiting, notify } = this.device.shared;
    const number = page.readUInt32LE(Page.asked) + 1;
    const answered = new Promise<void>((resolve) => {
      waiting[0] = () => {
        if (page.readUInt32LE(Page.answered) === number) resolve();
      };
    });
    page.writeUInt32LE(question, Page.question);
    page.writeUInt32LE(number, Page.asked);
    notify();
    const lost = this.device.disconnected.then((why) => Promise.reject(why ?? new Error('this end closed it')));
    await Promise.race([answered, lost]);
    return page.readUInt32LE(Page.answer);
  }
}

interface Shared {
  readonly page: Buffer;
  /** Called with each event. */
  readonly waiting: (() => void)[];
  readonly notify: () => void;
}
