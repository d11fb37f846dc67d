import type { BackRing } from '@xenpv/ring';
import type { RingJournal } from './ring-journal.js';

/** Publishes the answers put so far, and notes it before and after. True: the frontend asked for an event. */
export function pushAnswers(back: BackRing, journal: RingJournal | undefined): boolean {
  if (!journal) return back.pushResponses();
  const rspProd = back.responsesProduced;
  journal.publishing(rspProd);
  const asked = back.pushResponses();
  journal.published(rspProd);
  return asked;
}
