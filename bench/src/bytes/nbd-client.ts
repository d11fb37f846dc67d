import { Conversation, NBD_MAX_REQUEST, NbdError, type NbdExport, negotiateExport } from '@xenpv/nbd';
import { cut } from './mutate.js';
import { mustHold, type Target } from './target.js';

/** What a negotiation came to: an export, or the message with which it was given up; undefined when it wants more. */
interface Outcome {
  readonly export?: NbdExport;
  readonly refused?: string;
  readonly sent: number;
}

/** A client with a server of no goodwill: however its bytes are cut, it comes to one end, and believes no impossible size. */
export const nbdClient: Target = {
  name: 'nbd-client',
  read(bytes, random) {
    const whole = negotiate([bytes]);
    const inPieces = negotiate(cut(random, bytes));
    mustHold(JSON.stringify(whole) === JSON.stringify(inPieces), 'pieces come to another end');
    if (whole.export) checkExport(whole.export);
    mustHold(whole.sent <= 8192, `it answered with ${whole.sent} bytes`);
  },
};

function negotiate(pieces: readonly Buffer[]): Outcome {
  let sent = 0;
  const conversation = new Conversation(
    negotiateExport('disk', (bytes) => {
      sent += bytes.length;
    }),
  );
  try {
    for (const piece of pieces) {
      conversation.feed(piece);
      if (conversation.result) return { export: conversation.result, sent };
    }
  } catch (error) {
    if (!(error instanceof NbdError)) throw error;
    return { refused: `${error.code} ${error.message}`, sent };
  }
  return { sent };
}

function checkExport({ size, minimumBlock, preferredBlock, maximumBlock }: NbdExport): void {
  mustHold(Number.isSafeInteger(size) && size >= 0, `a size of ${size}`);
  mustHold(isPowerOfTwo(minimumBlock) && minimumBlock <= 65536, `a least block of ${minimumBlock}`);
  mustHold(isPowerOfTwo(preferredBlock) && preferredBlock >= minimumBlock, `a preferred block of ${preferredBlock}`);
  mustHold(maximumBlock >= minimumBlock, `a largest block of ${maximumBlock}, a least one of ${minimumBlock}`);
  mustHold(maximumBlock <= 2 ** 32 && NBD_MAX_REQUEST > 0, `a largest block of ${maximumBlock}`);
}

function isPowerOfTwo(number: number): boolean {
  return number > 0 && Number.isInteger(Math.log2(number));
}
