/** What a text says beside its words. */
export type Style = 'good' | 'waiting' | 'bad' | 'strong' | 'faint' | 'chosen';

/** How output looks: what its reader can see, and how wide that is. */
export interface Look {
  /** Columns of the terminal; undefined elsewhere, where nothing is cut. */
  readonly columns: number | undefined;
  /** `text` as it is shown; nothing is added where there are no colours. */
  paint(style: Style, text: string): string;
}

/** For files and pipes. */
export const PLAIN: Look = { columns: undefined, paint: (_, text) => text };

/** The numbers of "Select Graphic Rendition" (ECMA-48) that begin and end a style. */
const RENDITION: Readonly<Record<Style, readonly [begin: number, end: number]>> = {
  good: [32, 39],
  waiting: [33, 39],
  bad: [31, 39],
  strong: [1, 22],
  faint: [2, 22],
  chosen: [7, 27],
};

/** Where output goes, as far as its look depends on it. */
export interface OutputStream {
  readonly isTTY?: boolean;
  readonly columns?: number | undefined;
}

/**
 * The look of what is written to `stream`. Colours are for terminals, unless NO_COLOR is set to something or TERM says
 * that the terminal is a dumb one.
 */
export function lookOf(stream: OutputStream, env: NodeJS.ProcessEnv = process.env): Look {
  if (!stream.isTTY) return PLAIN;
  const coloured = !env.NO_COLOR && !isDumb(env);
  // A terminal that does not say how wide it is says 0.
  return { columns: stream.columns || undefined, paint: coloured ? rendered : PLAIN.paint };
}

/** Whether the terminal can do no more than print lines. */
export function isDumb(env: NodeJS.ProcessEnv): boolean {
  return env.TERM === 'dumb' || env.TERM === undefined || env.TERM === '';
}

function rendered(style: Style, text: string): string {
  const [begin, end] = RENDITION[style];
  return `\u001b[${begin}m${text}\u001b[${end}m`;
}
