/**
 * The writes of one image that its server has acknowledged and not flushed, in memory that every thread of the image
 * sees and that, where it is a file's, outlives the process. A server that dies may forget them; they are sent again.
 *
 * In comes each acknowledged write, before the guest hears of it, and each flush that has succeeded; out come, after the
 * death of the server or of this process, the writes that no flush has covered, in the order of their acknowledgement.
 * It is one log in a circle: an entry's place is its number in that order. Places count units of 64 bytes and wrap at
 * 2^32; the memory has a power of two of them.
 *
 * What must hold at every instant, because a kill may come then:
 * - The tail passes an entry before it is written, so that two threads never write the same place.
 * - An entry counts when its first word is right, which is written last and is of this place and this log only. What
 *   was not written to its end was not acknowledged.
 * - The head never passes an entry that is being written: its memory could be given to another one meanwhile.
 */
import { closeSync, openSync, readSync, rmSync, statSync } from 'node:fs';
import { NbdCommand } from '@xenpv/nbd';
import { mapSharedFile, type SharedFile } from '@xenpv/xen-sys';
import { LogWord } from './layout.js';

const MAGIC = 0x314c4e58; // "XNL1"
const HEADER_BYTES = 1024;
const UNIT_BYTES = 64;
const UNIT_WORDS = UNIT_BYTES / 4;
const LEAST_BYTES = 64 << 10;
const Entry = { commit: 0, command: 1, length: 2, offsetLow: 3, offsetHigh: 4 } as const;

/** Where an image's unflushed writes are kept. */
export interface UnflushedOptions {
  /** A file, on a file system in memory, that the next process finds; memory of this process only if not given. */
  readonly path?: string | undefined;
  /** Of memory at most; rounded down to a power of two. 16 MiB when not given, 64 KiB at least. */
  readonly bytes?: number | undefined;
  /** What an earlier process has left there is to be sent again; otherwise it is dropped. */
  readonly adopt?: boolean | undefined;
  /** Any number that tells which image it is: what was left by the writes of another one is not sent. */
  readonly identity?: number | undefined;
  /**
   * When the image was changed last, in milliseconds since 1970, if the guest that wrote what was left is not served any
   * more: somebody else may have changed the image since, so that it is not sent, and nobody is told of it then.
   */
  readonly changedAt?: number | undefined;
}

/** The same memory for another thread. */
export interface SharedLog {
  readonly name: string;
  readonly bytes: number;
  /** Not given where it is a file's. */
  readonly memory?: SharedArrayBuffer | undefined;
}

/** What was opened, and what is to be told of it. */
export interface OpenedLog {
  readonly log: UnflushedLog;
  /** Why the file cannot be used, so that the writes do not outlive this process. */
  readonly unusable?: Error | undefined;
  /** What was left and is not sent. */
  readonly dropped?: DroppedWrites | undefined;
}

/** Writes that an earlier process has kept, and that are of no use: the image is not what it was, or they are not. */
export interface DroppedWrites {
  /** Of memory that they took, where that is known. */
  readonly bytes?: number | undefined;
  /** Why, for people. */
  readonly reason: string;
}

/** A write that no flush has covered. */
export interface UnflushedWrite {
  readonly command: number;
  readonly offset: number;
  readonly length: number;
  readonly pieces: readonly Buffer[];
}

const DEFAULT_BYTES = 16 << 20;
/** What the image's server does with it, a while after it was noted here, is no change by somebody else. */
const CHANGED_AFTER_MS = 30_000;
/** Names must differ in one process only. */
let logs = 0;

export class UnflushedLog {
  readonly words: Int32Array;
  readonly shared: SharedLog;
  readonly #bytes: Buffer;
  readonly #file: SharedFile | undefined;
  readonly #units: number;
  #closed = false;

  private constructor(memory: ArrayBufferLike, shared: SharedLog, file: SharedFile | undefined) {
    this.words = new Int32Array(memory, 0, (HEADER_BYTES + shared.bytes) / 4);
    this.shared = shared;
    this.#bytes = Buffer.from(memory, HEADER_BYTES, shared.bytes);
    this.#file = file;
    this.#units = shared.bytes / UNIT_BYTES;
  }

  /** By the first who uses it in this process. */
  static open({ path, bytes = DEFAULT_BYTES, adopt = false, identity = 0, changedAt }: UnflushedOptions): OpenedLog {
    const most = 2 ** Math.floor(Math.log2(Math.max(bytes, LEAST_BYTES)));
    const { file, unusable, isDamaged = false }: MappedLog = path === undefined ? {} : mapLog(path, most, adopt);
    const log = file ? UnflushedLog.#ofFile(file) : UnflushedLog.#ofMemory(most);
    const dropped = log.#begin({ adopt, identity, isDamaged, changedAt });
    return { log, unusable, dropped };
  }

  static #ofFile(file: SharedFile): UnflushedLog {
    const shared = { name: file.path, bytes: file.buffer.byteLength - HEADER_BYTES };
    return new UnflushedLog(file.buffer, shared, file);
  }

  static #ofMemory(bytes: number): UnflushedLog {
    const memory = new SharedArrayBuffer(HEADER_BYTES + bytes);
    return new UnflushedLog(memory, { name: `blockdev unflushed ${logs++}`, bytes, memory }, undefined);
  }

  /** By another thread of the same process. */
  static attach(shared: SharedLog): UnflushedLog {
    const { name, bytes, memory } = shared;
    if (memory) return new UnflushedLog(memory, shared, undefined);
    const file = mapSharedFile(name, HEADER_BYTES + bytes);
    return new UnflushedLog(file.buffer, shared, file);
  }

  get isEmpty(): boolean {
    return Atomics.load(this.words, LogWord.head) === Atomics.load(this.words, LogWord.tail);
  }

  /** So full that a flush should make room. */
  get isFilling(): boolean {
    return this.#used > this.#units >> 1;
  }

  /** The place behind the last write that was noted: a flush that is sent now covers all that is before it. */
  get mark(): number {
    return Atomics.load(this.words, LogWord.tail);
  }

  /** Notes a write that the server has acknowledged. False when there is no room. */
  add(command: number, offset: number, length: number, pieces: readonly Buffer[]): boolean {
    const { words } = this;
    const units = 1 + (command === NbdCommand.write ? Math.ceil(length / UNIT_BYTES) : 0);
    Atomics.add(words, LogWord.adding, 1);
    const place = this.#reserve(units);
    if (place !== undefined) {
      let at = this.#byteAt(place + 1);
      if (command === NbdCommand.write) for (const piece of pieces) at = this.#copy(piece, at);
      const word = this.#wordAt(place);
      words[LogWord.at] = Date.now() / 1000;
      words[word + Entry.command] = command;
      words[word + Entry.length] = length;
      words[word + Entry.offsetLow] = offset % 2 ** 32;
      words[word + Entry.offsetHigh] = offset / 2 ** 32;
      Atomics.store(words, word + Entry.commit, this.#commitOf(place));
    }
    Atomics.sub(words, LogWord.adding, 1);
    return place !== undefined;
  }

  /**
   * A flush that was sent when `mark` was the end has succeeded. False when nothing was released, because another
   * thread is noting a write just now: a later flush will do it.
   */
  release(mark: number): boolean {
    const { words } = this;
    for (;;) {
      if (Atomics.load(words, LogWord.adding) !== 0) return false;
      const head = Atomics.load(words, LogWord.head);
      if (((mark - head) | 0) <= 0) return true;
      if (Atomics.compareExchange(words, LogWord.head, head, mark) === head) return true;
    }
  }

  /** In the order of their acknowledgement, while nobody notes or releases any. Their pieces are the log's memory. */
  *writes(): Generator<UnflushedWrite> {
    const { words } = this;
    const tail = Atomics.load(words, LogWord.tail);
    for (let place = Atomics.load(words, LogWord.head); ((tail - place) | 0) > 0; ) {
      const word = this.#wordAt(place);
      if (words[word + Entry.commit] !== this.#commitOf(place)) {
        // Nobody was told that this one is done: it was not noted to its end.
        place = (place + 1) | 0;
        continue;
      }
      const command = words[word + Entry.command];
      const length = words[word + Entry.length] >>> 0;
      const offset = (words[word + Entry.offsetHigh] >>> 0) * 2 ** 32 + (words[word + Entry.offsetLow] >>> 0);
      const bytes = command === NbdCommand.write ? length : 0;
      yield { command, offset, length, pieces: this.#pieces(this.#byteAt(place + 1), bytes) };
      place = (place + 1 + Math.ceil(bytes / UNIT_BYTES)) | 0;
    }
  }

  /** Writes are gone: the next flush fails. */
  lost(): void {
    Atomics.store(this.words, LogWord.lost, 1);
  }

  get hasLost(): boolean {
    return Atomics.load(this.words, LogWord.lost) !== 0;
  }

  /** Whether writes are gone that no flush has failed for yet; the caller's does. */
  takeLost(): boolean {
    return Atomics.exchange(this.words, LogWord.lost, 0) !== 0;
  }

  /** Ends its use on this thread. */
  detach(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#file?.close();
  }

  /** Ends its use in this process: what is in it is left to the next one. */
  close(): void {
    if (this.#closed) return;
    const isOver = this.isEmpty && !this.hasLost;
    this.detach();
    if (isOver && this.#file) rmSync(this.#file.path, { force: true });
  }

  get #used(): number {
    return (Atomics.load(this.words, LogWord.tail) - Atomics.load(this.words, LogWord.head)) | 0;
  }

  /** Gives what is dropped. */
  #begin({ adopt, identity, isDamaged, changedAt }: Beginning): DroppedWrites | undefined {
    const { words } = this;
    const isNew = words[LogWord.magic] === 0;
    const known = words[LogWord.magic] === MAGIC && words[LogWord.units] === this.#units;
    const isCurrent = changedAt === undefined || changedAt < 1000 * (words[LogWord.at] >>> 0) + CHANGED_AFTER_MS;
    const isSame = words[LogWord.identity] === identity;
    const isWhole = known && this.#used >= 0 && this.#used <= this.#units;
    const sound = isWhole && isSame && isCurrent;
    const hadLost = isWhole && this.hasLost;
    let dropped: DroppedWrites | undefined;
    if (adopt && (isDamaged || !(isNew || isWhole))) dropped = { reason: 'the file is damaged' };
    else if (adopt && !isNew && !sound && this.#used > 0) {
      const reason = isSame ? 'the image was changed since' : 'the path is another image now';
      dropped = { bytes: this.#used * UNIT_BYTES, reason };
    }
    if (!(adopt && sound)) {
      Atomics.store(words, LogWord.magic, 0);
      words.fill(0, 1, HEADER_BYTES / 4);
      words[LogWord.units] = this.#units;
      words[LogWord.identity] = identity;
      words[LogWord.nonce] = Math.trunc(Math.random() * 2 ** 32);
      if (dropped || (adopt && hadLost)) words[LogWord.lost] = 1;
      Atomics.store(words, LogWord.magic, MAGIC);
    }
    // The guest whose flush would fail is not there any more.
    if (changedAt !== undefined) words[LogWord.lost] = 0;
    // Of a process that is gone.
    words[LogWord.adding] = 0;
    words.fill(0, LogWord.mender, HEADER_BYTES / 4);
    words[LogWord.at] = Date.now() / 1000;
    words[LogWord.losses] = words[LogWord.mended] + (this.isEmpty ? 0 : 1);
    return dropped;
  }

  #reserve(units: number): number | undefined {
    const { words } = this;
    for (;;) {
      const tail = Atomics.load(words, LogWord.tail);
      const used = (tail - Atomics.load(words, LogWord.head)) | 0;
      if (used + units > this.#units) return undefined;
      if (Atomics.compareExchange(words, LogWord.tail, tail, (tail + units) | 0) === tail) return tail;
    }
  }

  #wordAt(place: number): number {
    return HEADER_BYTES / 4 + (place & (this.#units - 1)) * UNIT_WORDS;
  }

  #byteAt(place: number): number {
    return (place & (this.#units - 1)) * UNIT_BYTES;
  }

  /** Returns the byte behind it. */
  #copy(piece: Buffer, at: number): number {
    const { length } = this.#bytes;
    const end = at + piece.length;
    if (end <= length) {
      this.#bytes.set(piece, at);
      return end === length ? 0 : end;
    }
    this.#bytes.set(piece.subarray(0, length - at), at);
    this.#bytes.set(piece.subarray(length - at), 0);
    return end - length;
  }

  #pieces(at: number, bytes: number): Buffer[] {
    if (bytes === 0) return [];
    const first = this.#bytes.subarray(at, at + bytes);
    return first.length === bytes ? [first] : [first, this.#bytes.subarray(0, bytes - first.length)];
  }

  #commitOf(place: number): number {
    const { words } = this;
    const at = this.#wordAt(place);
    let hash = words[LogWord.nonce] ^ place;
    for (let i = Entry.command; i <= Entry.offsetHigh; i++) hash = Math.imul(hash ^ words[at + i], 0x01000193) + 1;
    return (hash ^ (hash >>> 15)) | 0;
  }
}

/** What a log begins with. */
interface Beginning {
  readonly adopt: boolean;
  readonly identity: number;
  /** What was there was of no use. */
  readonly isDamaged: boolean;
  readonly changedAt: number | undefined;
}

/** Whether a file that nobody has open has writes that no flush has covered. */
export function holdsUnflushed(path: string): boolean {
  const words = new Int32Array(LogWord.tail + 1);
  try {
    const fd = openSync(path, 'r');
    try {
      if (readSync(fd, words, 0, words.byteLength, 0) < words.byteLength) return false;
    } finally {
      closeSync(fd);
    }
  } catch {
    return false;
  }
  return words[LogWord.magic] === MAGIC && words[LogWord.head] !== words[LogWord.tail];
}

interface MappedLog {
  readonly file?: SharedFile;
  readonly unusable?: Error | undefined;
  /** What an earlier process has left is of no use. */
  readonly isDamaged?: boolean;
}

/** What is there is mapped as it is; a new one has as much as there is room for, down to the least. */
function mapLog(path: string, most: number, adopt: boolean): MappedLog {
  try {
    const found = adopt ? (statSync(path, { throwIfNoEntry: false })?.size ?? 0) : 0;
    if (isLogSize(found)) return { file: mapSharedFile(path, found) };
    rmSync(path, { force: true });
    return { ...mapNew(path, most), isDamaged: found > 0 };
  } catch (error) {
    return { unusable: error as Error };
  }
}

function mapNew(path: string, most: number): MappedLog {
  for (let bytes = most; ; bytes /= 2) {
    try {
      return { file: mapSharedFile(path, HEADER_BYTES + bytes) };
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'ENOSPC' || bytes <= LEAST_BYTES) throw error;
    }
  }
}

function isLogSize(bytes: number): boolean {
  return bytes - HEADER_BYTES >= LEAST_BYTES && Number.isInteger(Math.log2(bytes - HEADER_BYTES));
}
