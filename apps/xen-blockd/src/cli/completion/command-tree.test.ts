import { describe, expect, it } from 'vitest';
import { makeProgram } from '../command-line.js';
import { type CommandSpec, commandTree } from './command-tree.js';

const tree = commandTree(makeProgram({ ended() {}, ready() {} }));

/** All commands but `help`, which is commander's, with the words that call them. */
function named(commands: readonly CommandSpec[], before: readonly string[] = []): [string, CommandSpec][] {
  return commands.flatMap((command) => {
    const words = [...before, command.name];
    return [[words.join(' '), command] as [string, CommandSpec], ...named(command.subcommands, words)];
  });
}

const COMMANDS = new Map(named(tree.commands).filter(([name]) => name !== 'help'));

/** The calls of this program in the examples of a help, as words, without what shells and comments have. */
function callsOf({ notes }: CommandSpec): string[][] {
  const [, examples = ''] = notes.split(/^Examples:$/m);
  return [...examples.matchAll(/\bxen-blockd ((?:(?! {2}|&&)[^|;<>\n])+)/g)].map(([, words]) =>
    words.trim().split(' '),
  );
}

/** The command of a call, and what follows its name. */
function commandOf([first, ...rest]: readonly string[]): [CommandSpec | undefined, readonly string[]] {
  const subcommand = COMMANDS.get(`${first} ${rest[0]}`);
  return subcommand ? [subcommand, rest.slice(1)] : [COMMANDS.get(first), rest];
}

describe('the help of', () => {
  it.each([...COMMANDS])('%s has examples, of it and with options that are there', (name, command) => {
    expect(command.notes).toMatch(/^Examples:$/m);
    const calls = callsOf(command);
    expect(calls.map(commandOf).map(([called]) => called)).toContain(command);
    for (const call of calls) {
      const [called, rest] = commandOf(call);
      expect([name, call, called]).toEqual([name, call, expect.anything()]);
      const own = rest.includes('--') ? rest.slice(0, rest.indexOf('--')) : rest;
      const flags = called?.options.flatMap((option) => option.flags) ?? [];
      for (const word of own.filter((one) => /^--?[a-z]/.test(one))) {
        expect([name, call, flags]).toEqual([name, call, expect.arrayContaining([word])]);
      }
    }
  });
});
