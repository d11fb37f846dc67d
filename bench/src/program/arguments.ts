import { readArguments, usageError } from '../../../scripts/lib/program.mjs';

/**
 * The options of a program that runs rounds, each of which takes a value. Those that are not known end the process with
 * the usage and 2, `--help` with the usage and 0.
 */
export class ProgramArguments<Name extends string> {
  readonly values: Readonly<Partial<Record<Name, string>>>;
  readonly #usage: string;

  constructor(usage: string, names: readonly Name[]) {
    this.#usage = usage;
    const options = Object.fromEntries(names.map((name) => [name, { type: 'string' }]));
    this.values = readArguments(usage, options).values as Partial<Record<Name, string>>;
  }

  /** Ends the process: an option is wrong. */
  refuse(message: string): never {
    return usageError(this.#usage, message);
  }

  wholeNumber(name: Name): number | undefined {
    const text = this.values[name];
    if (text !== undefined && !/^\d{1,15}$/.test(text)) this.refuse(`--${name} is ${text}; expected a whole number`);
    return text === undefined ? undefined : Number(text);
  }

  /** The options for another run: these, with `fixed` in place of theirs, and without `dropped`. */
  again(fixed: Readonly<Partial<Record<Name, number>>>, dropped: readonly Name[]): string {
    return Object.entries({ ...this.values, ...fixed })
      .filter(([name]) => !dropped.includes(name as Name))
      .map(([name, value]) => `--${name} ${value}`)
      .join(' ');
  }
}
