/** What a key means; a letter or sign is itself. */
export type Key =
  | { readonly name: 'up' | 'down' | 'page-up' | 'page-down' | 'home' | 'end' }
  | { readonly name: 'enter' | 'escape' | 'backspace' | 'interrupt' | 'suspend' }
  | { readonly name: 'text'; readonly text: string };

type Name = Exclude<Key['name'], 'text'>;

/** What terminals send for keys that are no characters (ECMA-48, and the xterm that others copy). */
const SEQUENCES: Readonly<Record<string, Name>> = {
  '\u001b[A': 'up',
  '\u001bOA': 'up',
  '\u001b[B': 'down',
  '\u001bOB': 'down',
  '\u001b[5~': 'page-up',
  '\u001b[6~': 'page-down',
  '\u001b[H': 'home',
  '\u001bOH': 'home',
  '\u001b[1~': 'home',
  '\u001b[F': 'end',
  '\u001bOF': 'end',
  '\u001b[4~': 'end',
  '\u001b': 'escape',
  '\r': 'enter',
  '\n': 'enter',
  '\u007f': 'backspace',
  '\b': 'backspace',
  '\u0003': 'interrupt',
  '\u001a': 'suspend',
};

/** A sequence, known or not; or one character. */
const PIECES = /\u001b(?:\[[0-?]*[ -/]*[@-~]|O[@-~])?|[\s\S]/gu;

/** The keys that were pressed, in what a terminal in raw mode has sent at once. Others are left out. */
export function keysOf(input: string): Key[] {
  return [...input.matchAll(PIECES)].flatMap(([piece]): Key[] => {
    const name = SEQUENCES[piece];
    if (name !== undefined) return [{ name }];
    return /[\u0000-\u001f\u007f-\u009f]/.test(piece) ? [] : [{ name: 'text', text: piece }];
  });
}
