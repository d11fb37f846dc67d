import { fstatSync } from 'node:fs';
import { requireNativeAddon, sendDatagram } from '@xenpv/xen-sys';
import type { LogRecord } from '../record.js';
import { encodeEntry } from './entry.js';
import { journalFields } from './fields.js';

/** Also of a unit with a journal of its own (`LogNamespace=`), which sees that one there. */
const SOCKET = '/run/systemd/journal/socket';

/**
 * Whether systemd has connected this descriptor to the journal: JOURNAL_STREAM has its device and inode (systemd.exec(5)).
 * It is inherited by programs whose output goes elsewhere.
 */
export function isJournalStream(fd: number, stream = process.env.JOURNAL_STREAM): boolean {
  if (!stream) return false;
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    return stream === `${dev}:${ino}`;
  } catch {
    return false;
  }
}

/** The journal's own socket, which takes a line together with what it is about. */
export class Journal {
  readonly #path: string;

  constructor(path = SOCKET) {
    this.#path = path;
  }

  /** That of this process's log; undefined if its standard error does not go there, or nothing can be sent there. */
  static ofStandardError(): Journal | undefined {
    if (!isJournalStream(2)) return undefined;
    try {
      requireNativeAddon();
      return new Journal();
    } catch {
      return undefined;
    }
  }

  /** Whether the journal has taken it. It has not if it is not there, has no room or the line is too long; never waits. */
  write(record: LogRecord): boolean {
    return sendDatagram(this.#path, encodeEntry(journalFields(record))) === 0;
  }
}
