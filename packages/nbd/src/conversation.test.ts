import { describe, expect, test } from 'vitest';
import { Conversation, type Speaker } from './conversation.js';

/** Asks for these numbers of bytes; returns what it was given. */
function* asking(...numbers: number[]): Speaker<string[]> {
  const given: string[] = [];
  for (const bytes of numbers) given.push((yield bytes).toString());
  return given;
}

describe('a conversation', () => {
  test('collects what comes in pieces, and leaves what nobody asked for', () => {
    const conversation = new Conversation(asking(2, 3));
    expect(conversation.feed(Buffer.from('a'))).toBe(1);
    expect(conversation.feed(Buffer.from('bc'))).toBe(2);
    expect(conversation.result).toBeUndefined();
    expect(conversation.feed(Buffer.from('defg'))).toBe(2);
    expect(conversation.result).toEqual(['ab', 'cde']);
    expect(conversation.feed(Buffer.from('more'))).toBe(0);
  });

  test('gives as much as is here to one that takes any number', () => {
    const conversation = new Conversation(asking(-4, -4, 1));
    conversation.feed(Buffer.from('ab'));
    conversation.feed(Buffer.from('cdefgh'));
    expect(conversation.result).toEqual(['ab', 'cdef', 'g']);
  });

  test('keeps pieces that are written over when it has returned', () => {
    const conversation = new Conversation(asking(4));
    const piece = Buffer.from('ab');
    conversation.feed(piece);
    piece.fill('x');
    conversation.feed(Buffer.from('cd'));
    expect(conversation.result).toEqual(['abcd']);
  });

  test('throws what the speaker throws, and is over', () => {
    const conversation = new Conversation(
      (function* (): Speaker<never> {
        throw new Error(`not ${yield 1}`);
      })(),
    );
    expect(() => conversation.feed(Buffer.from('ab'))).toThrow('not a');
    expect(conversation.feed(Buffer.from('cd'))).toBeLessThanOrEqual(2);
  });
});
