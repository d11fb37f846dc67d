import type { PvConnection, PvDevice, PvPreparation } from '@xenpv/xenbus';
import { type BACKEND_KEYS, type CONFIG, type FRONTEND_KEYS, Page } from './protocol.js';

const MAX_QUESTION = 1_000_000;

/** Serves one device: answers each question with a multiple of it. */
export class VtemplateDevice implements PvDevice<typeof FRONTEND_KEYS, typeof CONFIG> {
  #factor = 1;

  /** The device is new: open what it is made of, and say what a frontend may choose from. */
  prepare({ config }: PvPreparation<typeof CONFIG>): Record<keyof typeof BACKEND_KEYS, number> {
    this.#factor = config.factor;
    return { 'max-question': MAX_QUESTION };
  }

  /** A frontend is there: take its page and its port. Both are given back by themselves. */
  connect({ keys, link }: PvConnection<typeof FRONTEND_KEYS>) {
    const page = link.map(keys['page-ref'], { writable: true });
    const channel = link.bind(keys['event-channel'], () => {
      if (this.#answer(page)) channel.notify();
    });
  }

  /** An event only says "look": there may be nothing new. What this throws ends the connection, and is told. */
  #answer(page: Buffer): boolean {
    const asked = page.readUInt32LE(Page.asked);
    if (asked === page.readUInt32LE(Page.answered)) return false;
    // The page is the guest's memory. Read what matters once, then check the copy.
    const question = page.readUInt32LE(Page.question);
    if (question > MAX_QUESTION) throw new Error(`the question ${question} is larger than ${MAX_QUESTION}`);
    page.writeUInt32LE(question * this.#factor, Page.answer);
    page.writeUInt32LE(asked, Page.answered);
    return true;
  }
}
