/**
 * Controls (C0, DEL, C1), invisible formats (bidi controls among them), line and paragraph separators, and halves of
 * surrogate pairs.
 */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

const SHORT: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/**
 * The text with every character that a terminal, a log or a person could take for something else written as JSON
 * escapes it. What a guest or a toolstack wrote goes through here on its way to any of them. The escapes are valid
 * inside of JSON's strings too.
 */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, escapeCharacter);
}

function escapeCharacter(character: string): string {
  const units = Array.from({ length: character.length }, (_, index) => character.charCodeAt(index));
  return SHORT[character] ?? units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('');
}
