/** Where something is in a file; both count from 1. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

/**
 * Where the keys at the top of a TOML document, and its tables, are first named. smol-toml tells only values. The text
 * must be well-formed TOML; of other text some keys may be missing.
 */
export function locateKeys(text: string): Map<string, Position> {
  const keys = new Map<string, Position>();
  let depth = 0;
  let inTable = false;
  // Strings first, so that brackets, hashes and line ends in them do not count.
  const tokens =
    /"""(?:[^\\]|\\[\s\S])*?"{3,5}|'''[\s\S]*?'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|#[^\n]*|[A-Za-z0-9_-]+|\[\[?|[\]{}=\n]/g;
  let atStart = true;
  for (const { 0: token, index } of text.matchAll(tokens)) {
    if (token === '\n') {
      if (depth === 0) atStart = true;
    } else if (token.startsWith('#')) {
      // A comment is on its own or ends a line.
    } else if (atStart && depth === 0) {
      atStart = false;
      if (token.startsWith('[')) {
        inTable = true;
        const name = /^\[\[?[ \t]*("(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[A-Za-z0-9_-]+)/.exec(text.slice(index))?.[1];
        if (name !== undefined) note(keys, name, positionOf(text, index));
        depth += token.length;
      } else if (!inTable) {
        note(keys, token, positionOf(text, index));
      }
    } else if (token.startsWith('[')) {
      depth += token.length;
    } else if (token === '{') {
      depth += 1;
    } else if (token === ']' || token === '}') {
      depth -= 1;
    }
  }
  return keys;
}

/** The position of the UTF-16 unit at `offset`. */
export function positionOf(text: string, offset: number): Position {
  const before = text.slice(0, offset);
  const lineStart = before.lastIndexOf('\n') + 1;
  return { line: before.split('\n').length, column: offset - lineStart + 1 };
}

function note(keys: Map<string, Position>, token: string, position: Position): void {
  const name = unquote(token);
  if (!keys.has(name)) keys.set(name, position);
}

function unquote(token: string): string {
  if (token.startsWith("'")) return token.slice(1, -1);
  if (!token.startsWith('"')) return token;
  try {
    return String(JSON.parse(token));
  } catch {
    // TOML has escapes that JSON has not.
    return token.slice(1, -1);
  }
}
