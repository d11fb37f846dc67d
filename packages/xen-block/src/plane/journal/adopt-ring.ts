import type { BackRing } from '@xenpv/ring';
import type { SharedFile } from '@xenpv/xen-sys';
import { XenBlockError } from '../../errors.js';
import { examine, type Finding, type MendedEntry } from './examine.js';
import { openJournalFile } from './journal-file.js';
import { ENTRY_WORDS, Entry, type JournalRing, slotSum } from './layout.js';
import { RingJournal } from './ring-journal.js';

/** Where a ring's journal is, and whether its contents count. */
export interface JournalOptions {
  /** A file of this ring alone, on a file system in memory. Its folder must exist. */
  readonly path: string;
  /** An earlier process served this very connection: the requests that it left unanswered are to be carried out. */
  readonly adopt: boolean;
  /**
   * What is done when the journal of a ring with unanswered requests is lost: ERR_JOURNAL_LOST, or, as somebody has said,
   * all that the ring shows as unanswered is carried out. `refuse` when not given.
   */
  readonly whenLost?: 'refuse' | 'go-on' | undefined;
}

/** A ring's journal, and its entries of requests that an earlier process took and did not answer. */
export interface AdoptedRing {
  readonly journal: RingJournal | undefined;
  readonly entries: Int32Array;
  /** Why a journal that was expected has no part in it, in words; or undefined. */
  readonly dropped: string | undefined;
}

const NOTHING: AdoptedRing = { journal: undefined, entries: new Int32Array(0), dropped: undefined };

/**
 * Opens the journal of a ring that was just attached, and lets the ring go on behind the requests that an earlier
 * process took: the caller is to carry those out. Without a journal there are none.
 * Errors: ERR_JOURNAL_LOST, the ring was served, has requests that are not answered, and its journal does not tell which
 * of them were taken; ERR_JOURNAL, a new journal cannot be made.
 */
export function adoptRing(
  back: BackRing,
  ring: { readonly name?: string; readonly refs: Uint32Array; readonly eventChannel: number },
  options: JournalOptions | undefined,
): AdoptedRing {
  if (!options) return NOTHING;
  const { path, adopt, whenLost } = options;
  const ofRing = { refs: ring.refs, eventChannel: ring.eventChannel, slots: back.size, slotWords: back.slotWords };
  const anew = (dropped?: string): AdoptedRing => {
    return { ...NOTHING, journal: RingJournal.create(path, ofRing, back.responsesProduced), dropped };
  };
  if (!adopt) return anew();
  const finding = look(path, ofRing, back);
  if (finding.is === 'good') return goOn(path, ofRing, back, finding);
  if (finding.is === 'lost' && back.waiting > 0 && whenLost !== 'go-on') {
    throw lostJournal(path, finding.found, back, ring.name);
  }
  return anew(`its journal ${path} ${finding.found}`);
}

type Good = Extract<Finding, { is: 'good' }> & { readonly file: SharedFile };
type Looked = Good | Exclude<Finding, { is: 'good' }>;

/** The file is open where it is good. */
function look(path: string, ring: JournalRing, back: BackRing): Looked {
  try {
    const file = openJournalFile(path);
    if (!file) return { is: 'lost', found: 'is gone' };
    const finding = examine(new Int32Array(file.buffer), ring, back);
    if (finding.is === 'good') return { ...finding, file };
    file.close();
    return finding;
  } catch (error) {
    if (!(error instanceof XenBlockError)) throw error;
    return { is: 'lost', found: `cannot be read: ${error.message}` };
  }
}

function goOn(path: string, ring: JournalRing, back: BackRing, { file, left, put, mended }: Good): AdoptedRing {
  const words = new Int32Array(file.buffer);
  for (const entry of mended) mend(words, entry);
  const journal = RingJournal.adopt(path, file, ring, { rspProd: back.responsesProduced, put, left });
  back.skipTaken(left.length);
  return { journal, entries: left, dropped: undefined };
}

/** Whichever store is the last, two of request, index and checksum are as the ring has them. */
function mend(words: Int32Array, { entry, index, slot }: MendedEntry): void {
  const sum = slotSum(slot, 0, slot.length, index);
  const isSummed = words[entry + Entry.sum] === sum;
  if (isSummed) for (let i = 0; i < slot.length; i++) words[entry + ENTRY_WORDS + i] = slot[i];
  words[entry + Entry.taken] = index;
  words[entry + Entry.sum] = sum;
}

function lostJournal(path: string, found: string, back: BackRing, ring: string | undefined): XenBlockError {
  const disk = ring?.split('/')[0] ?? 'DISK';
  const message =
    `the journal ${path} ${found}, and ${back.waiting} requests of its ring are not answered: which of them an earlier ` +
    `process has taken is not known; put the journal back, or: xen-blockd resume ${disk} --without-journal`;
  return new XenBlockError('ERR_JOURNAL_LOST', 'connect', message, { path });
}
