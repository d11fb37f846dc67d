import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { allocateMemory, type BlockImage, BlockOp, openNbdImage } from '@xenpv/blockdev';
import { cut } from '../mutate.js';
import { Patience } from '../patience.js';
import { mustHold, type Target } from '../target.js';

type Piece = readonly [at: number, bytes: number];

interface Asked {
  readonly op: BlockOp;
  readonly offset: number;
  readonly length: number;
  /** Where the data is in memory. */
  readonly pieces: readonly Piece[];
}

/** What is in flight while the server says its bytes: the place is the cookie. */
const ASKED: readonly Asked[] = [
  { op: BlockOp.read, offset: 0, length: 512, pieces: [[512, 512]] },
  { op: BlockOp.write, offset: 512, length: 512, pieces: [[1536, 512]] },
  {
    op: BlockOp.read,
    offset: 1024,
    length: 1024,
    pieces: [
      [2560, 512],
      [3584, 512],
    ],
  },
  { op: BlockOp.discard, offset: 4096, length: 512, pieces: [] },
];
const MEMORY_BYTES = 8192;
/** What memory has before: the server says none of it but by chance. */
const BEFORE = 0xa5;
const REQUEST_BYTES = 28;
const REPLY_BYTES = 16;
const SIMPLE_REPLY = 0x67446698;
const ESHUTDOWN = 108;
const EIO = 5;
/** Those of the protocol. */
const ERRNOS = [1, EIO, 12, 22, 28, 75, 95];
/** Of this process's own time: see Patience. */
const ENDS_MS = 10_000;
/** The server says what it says, and goes. */
const NEVER_SILENT_MS = 2 ** 31 - 1;
/** All requests and the data of the write. */
const ALL_ASKED = ASKED.length * REQUEST_BYTES + 512;

/** With NO_ZEROES; an export of 64 KiB that can be discarded, and not flushed, so that the image sends nothing of its own. */
const GREETING = Buffer.from('4e42444d4147494349484156454f50540003', 'hex');
const EXPORT = Buffer.from(
  '0003e889045565a900000007000000030000000c000000000000000100000021' + '0003e889045565a9000000070000000100000000',
  'hex',
);

/** What must have come of the requests: a result each, and the bytes of those that were read. */
interface Expected {
  readonly results: readonly number[];
  readonly read: ReadonlyMap<number, Buffer>;
}

/** A reader of simple replies of its own, which knows the protocol and nothing of the client. */
function expectedOf(bytes: Buffer): Expected {
  const results = ASKED.map(() => -EIO);
  const read = new Map<number, Buffer>();
  const open = new Set(ASKED.keys());
  for (let at = 0; at + REPLY_BYTES <= bytes.length; ) {
    const errno = bytes.readUInt32BE(at + 4);
    const cookie = Number(bytes.readBigUInt64BE(at + 8));
    if (bytes.readUInt32BE(at) !== SIMPLE_REPLY || !open.has(cookie) || errno === ESHUTDOWN) break;
    at += REPLY_BYTES;
    const { op, length } = ASKED[cookie];
    if (errno === 0 && op === BlockOp.read) {
      if (at + length > bytes.length) break;
      read.set(cookie, bytes.subarray(at, at + length));
      at += length;
    }
    open.delete(cookie);
    const moved = op === BlockOp.discard ? 0 : length;
    results[cookie] = errno === 0 ? moved : -(ERRNOS.includes(errno) ? errno : EIO);
  }
  return { results, read };
}

/** For planted defects. */
export interface NbdRepliesDefect {
  /** What the client is given instead of what the server says: as one that misreads it would act. */
  readonly misread?: (bytes: Buffer) => Buffer;
  readonly wrap?: (image: BlockImage) => BlockImage;
  /** Milliseconds after which a request has no end. */
  readonly endsMs?: number;
}

/**
 * The client's part of the transmission with a server of no goodwill, over a real socket: each request ends once, as what
 * the server said of it has it; what is read is what was sent for it; nothing else in memory is written to.
 */
export function nbdRepliesOf({
  misread = (bytes) => bytes,
  wrap = (image) => image,
  endsMs = ENDS_MS,
}: NbdRepliesDefect = {}): Target {
  return {
    name: 'nbd-replies',
    async read(bytes, random) {
      const folder = mkdtempSync(join(tmpdir(), 'nbd-replies-'));
      const server = await serve(join(folder, 'socket'), cut(random, misread(bytes)));
      try {
        const image = wrap(await openNbdImage(join(folder, 'socket'), { reconnect: 0, silence: NEVER_SILENT_MS }));
        await checkEnds(image, expectedOf(bytes), endsMs).finally(() => image.close());
      } finally {
        server.close();
        rmSync(folder, { recursive: true });
      }
    },
  };
}

export const nbdReplies: Target = nbdRepliesOf();

/** Serves one connection: when all is asked it says the pieces, and goes. */
async function serve(path: string, pieces: readonly Buffer[]): Promise<{ close(): void }> {
  let connections = 0;
  const server = createServer((socket) => {
    socket.on('error', () => {});
    if (connections++ > 0) socket.destroy();
    else converse(socket, pieces);
  });
  await once(server.listen(path), 'listening');
  return server;
}

function converse(socket: Socket, pieces: readonly Buffer[]): void {
  let asked = -1;
  socket.write(GREETING);
  socket.on('data', (bytes: Buffer) => {
    if (asked < 0) {
      // The client's flags and its option, which it says at once.
      asked = 0;
      socket.write(EXPORT);
      return;
    }
    asked += bytes.length;
    if (asked !== ALL_ASKED) return;
    for (const piece of pieces) socket.write(piece);
    socket.end();
  });
}

async function checkEnds(image: BlockImage, { results, read }: Expected, endsMs: number): Promise<void> {
  const memory = allocateMemory(MEMORY_BYTES);
  const bytes = Buffer.from(memory).fill(BEFORE);
  const queue = image.createQueue({ depth: ASKED.length, memory });
  const ends = ASKED.map((): number[] => []);
  const patience = new Patience(endsMs);
  const allEnded = new Promise<void>((resolve) => {
    void patience.ended.then(resolve);
    queue.onComplete((tags, values, count) => {
      for (let i = 0; i < count; i++) ends[tags[i]]?.push(values[i]);
      if (ends.every(({ length }) => length > 0)) resolve();
    });
  });
  for (const [tag, { op, offset, length, pieces }] of ASKED.entries()) {
    queue.push(op, tag, offset, length, new Float64Array(pieces.flatMap((piece) => [0, ...piece])), pieces.length);
  }
  queue.submit();
  await allEnded;
  patience.stop();
  for (const [tag, ended] of ends.entries()) {
    mustHold(ended.length === 1, `request ${tag} ends ${ended.length} times`);
    mustHold(ended[0] === results[tag], `request ${tag} ends with ${ended[0]}, not ${results[tag]}`);
  }
  await queue.close();
  checkMemory(bytes, results, read);
}

/** What may have been read has what was sent, or where the read failed anything; all else is as it was. */
function checkMemory(memory: Buffer, results: readonly number[], read: Expected['read']): void {
  const right = Buffer.alloc(MEMORY_BYTES, BEFORE);
  for (const [tag, { op, pieces }] of ASKED.entries()) {
    if (op !== BlockOp.read) continue;
    let from = 0;
    for (const [at, bytes] of pieces) {
      const data = results[tag] < 0 ? memory.subarray(at, at + bytes) : read.get(tag)?.subarray(from, from + bytes);
      right.set(data ?? [], at);
      from += bytes;
    }
  }
  const at = memory.findIndex((byte, i) => byte !== right[i]);
  mustHold(at < 0, `byte ${at} of memory is ${memory[at]}, not ${right[at]}`);
}
