import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MessageSplitter, type Piece } from './message-splitter.js';

/** The pieces of a text that comes in chunks of these lengths, in turn. */
function split(text: string, lengths: readonly number[] = [text.length], most = 1 << 20): Piece[] {
  const splitter = new MessageSplitter(most);
  const pieces: Piece[] = [];
  for (let at = 0, turn = 0; at < text.length; turn++) {
    const length = Math.max(1, lengths[turn % lengths.length] ?? 1);
    pieces.push(...splitter.push(text.slice(at, at + length)));
    at += length;
  }
  return pieces;
}

const object = (text: string) => ({ object: text });

describe('a stream of objects', () => {
  it.each([
    ['a line each', '{"a":1}\r\n{"b":2}\n', [object('{"a":1}'), object('{"b":2}')]],
    ['in one line', '{"a":1}{"b":2} {"c":3}', [object('{"a":1}'), object('{"b":2}'), object('{"c":3}')]],
    ['over lines', '{\n  "a": [1,\n 2]\n}\n', [object('{\n  "a": [1,\n 2]\n}')]],
    ['with brackets in strings', '{"a":"}{]["}', [object('{"a":"}{]["}')]],
    ['with quotes in strings', '{"a":"\\"}"}', [object('{"a":"\\"}"}')]],
    ['with a backslash at the end of a string', '{"a":"\\\\"}', [object('{"a":"\\\\"}')]],
    ['after what is none', 'hello {"a":1}\n{"b":2}', [{ garbage: 'hello {"a":1}' }, object('{"b":2}')]],
    ['that has not ended', '{"a":{"b":1}', []],
    ['of white space', ' \r\n\t\n', []],
  ])('%s', (_, text, pieces) => {
    expect(split(text)).toEqual(pieces);
  });

  it('comes out the same however it is cut', () => {
    const message = fc.dictionary(fc.string(), fc.jsonValue()).map((value) => JSON.stringify(value));
    const stream = fc.array(fc.oneof(message, fc.constant('nonsense\n')), { maxLength: 5 });
    fc.assert(
      fc.property(stream, fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 }), (messages, lengths) => {
        const text = messages.join('\n');
        expect(split(text, lengths)).toEqual(split(text));
        const whole = messages.filter((one) => one.startsWith('{'));
        expect(split(text).filter((piece) => 'object' in piece)).toEqual(whole.map(object));
      }),
    );
  });

  it.each([
    ['an object', `{"a":"${'x'.repeat(100)}`],
    ['garbage', 'x'.repeat(101)],
    ['an object that is whole', `{"a":"${'x'.repeat(100)}"}`],
  ])('%s that is too long is refused, in one piece or many', (_, text) => {
    for (const lengths of [[text.length], [7]]) {
      expect(() => split(text, lengths, 100)).toThrow('a message is longer than 100 characters');
    }
  });

  it('what comes before one that is refused counts, however it is cut', () => {
    const text = `{"a":1}{"b":"${'x'.repeat(100)}"}`;
    for (const length of [text.length, 30, 7]) {
      const splitter = new MessageSplitter(100);
      const pieces: Piece[] = [];
      const feed = () => {
        for (let at = 0; at < text.length; at += length) {
          for (const piece of splitter.push(text.slice(at, at + length))) pieces.push(piece);
        }
      };
      expect(feed).toThrow('longer than 100 characters');
      expect(pieces).toEqual([object('{"a":1}')]);
    }
  });

  it('an object that is too deep is refused', () => {
    expect(() => split(`{"a":${'['.repeat(1024)}`)).toThrow('JSON is deeper than 1024 levels');
    expect(split(`{"a":${'['.repeat(1023)}${']'.repeat(1023)}}`)).toHaveLength(1);
  });
});
