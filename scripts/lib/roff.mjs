/** Text as roff for man(7). What comes in is text; what comes out is roff, and is never escaped again. */

/** Characters that roff takes for something else, or the fonts of manuals for another character. */
const ESCAPES = { '\\': '\\e', '-': '\\-', '`': '\\(ga', '^': '\\(ha', '~': '\\(ti', '–': '\\(en', '…': '...' };

const COLUMNS = 110;

/** Error: a character that not every manual can show. */
export function escaped(text) {
  const found = /[^\x20-\x7e–…]/.exec(text);
  if (found) throw new Error(`no roff for ${JSON.stringify(found[0])} of: ${text}`);
  return text.replace(/[\\`^~–…-]/g, (character) => ESCAPES[character]);
}

/** What is looked for and copied is not torn apart at the end of a line. */
const whole = (roff) => `\\%${roff}`;

export const bold = (text) => whole(`\\fB${escaped(text)}\\fR`);
export const italic = (text) => whole(`\\fI${escaped(text)}\\fR`);

/** A line that begins like a request is none. */
const guarded = (line) => line.replace(/^(?=[.'])/, '\\&');

/** Roff that is to be filled: a line for each sentence at least, since roff sees by that where one ends. */
export function filled(roff) {
  return roff
    .split(/(?<=[.?!]) (?=[A-Z])/)
    .flatMap(wrapped)
    .map(guarded)
    .join('\n');
}

function wrapped(sentence) {
  const lines = [];
  for (const bare of sentence.split(/\s+/)) {
    // What has a hyphen is a name.
    const word = bare.includes('\\-') && !bare.startsWith('\\%') ? whole(bare) : bare;
    const longer = lines.length > 0 ? `${lines.at(-1)} ${word}` : word;
    if (lines.length > 0 && longer.length <= COLUMNS) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

/** Lines of text as they are: what is copied out of a manual must work. */
export function verbatim(lines) {
  const shown = lines.map((line) => guarded(escaped(line).replaceAll("'", '\\(aq')));
  return ['.EX', ...shown, '.EE'].join('\n');
}
