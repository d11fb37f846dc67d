import { QmpError } from '@xenpv/qmp';
import { type BlockDevice, type DiskTrace, RECORD_WORDS, RecordWord } from '@xenpv/xen-block';

/** What of a disk's requests a client wants to see; undefined: all. */
export interface TraceFilter {
  /** BlkifOps. */
  readonly operations: readonly number[] | undefined;
  readonly queue: number | undefined;
}

export interface TraceAnswer {
  /** 64-bit floats, the least significant byte first, in base64. */
  readonly records: string;
  /** Records that were overwritten before they were read. */
  readonly lost: number;
  /** The disk is served no more, and this is all. */
  readonly ended: boolean;
}

interface OpenTrace {
  readonly trace: DiskTrace;
  readonly filter: TraceFilter;
  /** The client's. */
  readonly signal: AbortSignal;
  readonly abort: () => void;
}

/** Each takes memory in the daemon. */
const MOST_TRACES = 8;
/** Records of one answer: the thread that serves disks is not kept by more. */
const MOST_RECORDS = 1024;
/** Between two looks for records that are waited for. */
const LOOK_MS = 50;

/** The traces that clients have open. One belongs to its client, and ends with it. */
export class Traces {
  readonly #open = new Map<number, OpenTrace>();
  #beginning = 0;
  #last = 0;

  /** Returns the trace's number. Error: there are too many. */
  async begin(disk: BlockDevice, filter: TraceFilter, signal: AbortSignal): Promise<number> {
    if (this.#open.size + this.#beginning >= MOST_TRACES) {
      throw QmpError.refusal(`there are ${MOST_TRACES} traces already; end one first`);
    }
    this.#beginning++;
    const trace = await disk.trace().finally(() => this.#beginning--);
    const number = ++this.#last;
    const abort = () => this.#end(number);
    this.#open.set(number, { trace, filter, signal, abort });
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
    return number;
  }

  /** Resolves when there is something to tell, or after `waitMs`. Error: the client has no such trace. */
  async read(number: number, waitMs: number, signal: AbortSignal): Promise<TraceAnswer> {
    const open = this.#of(number, signal);
    const until = performance.now() + waitMs;
    for (;;) {
      const answer = look(open);
      if (answer.records.length > 0 || answer.lost > 0 || answer.ended) return answer;
      if (signal.aborted || performance.now() >= until) return answer;
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  /** Error: the client has no such trace. */
  end(number: number, signal: AbortSignal): void {
    this.#of(number, signal);
    this.#end(number);
  }

  #of(number: number, signal: AbortSignal): OpenTrace {
    const open = this.#open.get(number);
    if (open?.signal === signal) return open;
    throw QmpError.refusal(`this connection has no trace ${number}; begin one with x-trace-start`);
  }

  #end(number: number): void {
    const open = this.#open.get(number);
    this.#open.delete(number);
    open?.signal.removeEventListener('abort', open.abort);
    open?.trace[Symbol.dispose]();
  }
}

function look({ trace, filter }: OpenTrace): TraceAnswer {
  const { records, lost, ended } = trace.read(MOST_RECORDS);
  const wanted = filtered(records, filter);
  const bytes = Buffer.from(wanted.buffer, wanted.byteOffset, wanted.byteLength);
  return { records: bytes.toString('base64'), lost, ended };
}

/** The records that the filter lets through, moved to the front. */
function filtered(records: Float64Array, { operations, queue }: TraceFilter): Float64Array {
  if (operations === undefined && queue === undefined) return records;
  let end = 0;
  for (let at = 0; at < records.length; at += RECORD_WORDS) {
    if (queue !== undefined && records[at + RecordWord.queue] !== queue) continue;
    if (operations && !operations.includes(records[at + RecordWord.operation])) continue;
    records.copyWithin(end, at, at + RECORD_WORDS);
    end += RECORD_WORDS;
  }
  return records.subarray(0, end);
}
