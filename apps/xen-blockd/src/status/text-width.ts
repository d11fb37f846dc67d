/** Marks that are drawn over the character before them. */
const MARK = /^[\p{Mn}\p{Me}]$/u;

/** Emoji, as terminals draw them. */
const EMOJI = /^\p{Emoji_Presentation}$/u;

/** First and last code points of what Unicode's EastAsianWidth calls wide: two columns on every terminal. */
const WIDE: readonly (readonly [first: number, last: number])[] = [
  [0x11_00, 0x11_5f],
  [0x2e_80, 0x30_3e],
  [0x30_41, 0x4d_bf],
  [0x4e_00, 0xa4_cf],
  [0xa9_60, 0xa9_7c],
  [0xac_00, 0xd7_a3],
  [0xf9_00, 0xfa_ff],
  [0xfe_10, 0xfe_19],
  [0xfe_30, 0xfe_6b],
  [0xff_01, 0xff_60],
  [0xff_e0, 0xff_e6],
  [0x1_6f_e0, 0x1_b2_fb],
  [0x2_00_00, 0x3_ff_fd],
];

/** The columns of a terminal that one character has; controls are none of its business. */
export function characterWidth(character: string): number {
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x3_00) return 1;
  if (MARK.test(character)) return 0;
  return EMOJI.test(character) || WIDE.some(([first, last]) => code >= first && code <= last) ? 2 : 1;
}

/** The columns of a terminal that a text has. */
export function textWidth(text: string): number {
  let width = 0;
  for (const character of text) width += characterWidth(character);
  return width;
}

/** Text with spaces behind it, up to so many columns. */
export function padEndTo(columns: number, text: string): string {
  return text + ' '.repeat(Math.max(0, columns - textWidth(text)));
}

/** Text with spaces before it, up to so many columns. */
export function padStartTo(columns: number, text: string): string {
  return ' '.repeat(Math.max(0, columns - textWidth(text))) + text;
}
