import type { BackRing } from '@xenpv/ring';
import { type JournalOptions, RingJournal } from './ring-journal.js';

const NOTHING: AdoptedRing = { journal: undefined, entries: new Int32Array(0) };

/** A ring's journal, and its entries of requests that an earlier process took and did not answer. */
export interface AdoptedRing {
  readonly journal: RingJournal | undefined;
  readonly entries: Int32Array;
}

/**
 * Opens the journal of a ring that was just attached, and lets the ring go on behind the requests that an earlier
 * process took: the caller is to carry those out. Without a journal, or with that of another connection, there are none.
 */
export function adoptRing(
  back: BackRing,
  ring: { readonly refs: Uint32Array; readonly eventChannel: number },
  options: JournalOptions | undefined,
): AdoptedRing {
  if (!options) return NOTHING;
  const { refs, eventChannel } = ring;
  const ofRing = { refs, eventChannel, slots: back.size, slotWords: back.slotWords };
  const journal = RingJournal.open(options, ofRing, back.responsesProduced);
  try {
    if (!journal.isOf(back)) journal.clear(back.responsesProduced);
    const entries = journal.adopt(back.responsesProduced);
    back.skipTaken(entries.length);
    return { journal, entries };
  } catch (error) {
    journal.close();
    throw error;
  }
}
