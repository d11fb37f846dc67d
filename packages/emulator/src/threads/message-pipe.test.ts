import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MessagePipe } from './message-pipe.js';

/** Resolves with the messages once there are `count`. */
function collect(pipe: MessagePipe, count: number): Promise<Uint8Array[]> {
  const messages: Uint8Array[] = [];
  return new Promise((resolve, reject) => {
    if (count === 0) resolve(messages);
    pipe.start({
      message: (message) => {
        messages.push(message);
        if (messages.length === count) resolve(messages);
      },
      close: () => reject(new Error('closed')),
    });
  });
}

/** Messages of several lengths, some longer than the pipe, none alike. */
const messages = fc
  .array(fc.oneof(fc.nat(40_000), fc.constantFrom(0, 1, 16 * 1024 - 4, 16 * 1024)), { maxLength: 12 })
  .map((lengths) => lengths.map((length, n) => Uint8Array.from({ length }, (_, i) => i * 7 + n)));

function same(received: Uint8Array[], sent: Uint8Array[]): boolean {
  return received.length === sent.length && received.every((message, i) => Buffer.compare(message, sent[i]) === 0);
}

describe('MessagePipe', () => {
  it('carries messages of any length both ways at once, whole and in order', async () => {
    await fc.assert(
      fc.asyncProperty(messages, messages, async (there, back) => {
        const memory = MessagePipe.memory();
        const [left, right] = [new MessagePipe(memory, 0), new MessagePipe(memory, 1)];
        const received = [collect(right, there.length), collect(left, back.length)];
        for (const message of there) left.send(message);
        for (const message of back) right.send(message);
        const [atRight, atLeft] = await Promise.all(received);
        left.close();
        right.close();
        expect([same(atRight, there), same(atLeft, back)]).toEqual([true, true]);
      }),
      { numRuns: 40 },
    );
  });

  it('tells the other end of its close, after what was sent', async () => {
    const memory = MessagePipe.memory();
    const [left, right] = [new MessagePipe(memory, 0), new MessagePipe(memory, 1)];
    left.send(Uint8Array.of(1));
    left.close();
    left.close();
    left.send(Uint8Array.of(2));
    const seen: unknown[] = [];
    await new Promise<void>((resolve) => {
      right.start({ message: (message) => seen.push([...message]), close: resolve });
    });
    expect(seen).toEqual([[1]]);
    right.close();
  });
});
