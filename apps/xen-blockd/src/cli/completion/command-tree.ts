import type { Argument, Command, Option } from 'commander';

/** What may stand where a value is expected. */
export type Values = { readonly choices: readonly string[] } | 'file' | 'disk' | 'anything';

export interface OptionSpec {
  /** As `--help` shows it: `-h, --help`, `--type <types...>`. */
  readonly term: string;
  /** `-h` and `--help`, as far as the option has them. */
  readonly flags: readonly string[];
  readonly description: string;
  /** The description, with what may be chosen and what there is by default. */
  readonly help: string;
  /** Undefined for an option without a value. */
  readonly values: Values | undefined;
}

export interface ArgumentSpec {
  /** `<disk>`, or `[limits]` for one that may be left out. */
  readonly term: string;
  /** As an option's. */
  readonly help: string;
  readonly values: Values;
}

export interface CommandSpec {
  readonly name: string;
  readonly description: string;
  /** What `--help` has behind the options: notes and examples. */
  readonly notes: string;
  readonly options: readonly OptionSpec[];
  /** In their order. */
  readonly arguments: readonly ArgumentSpec[];
  /** May stand in the place of its first argument; they have none themselves. */
  readonly subcommands: readonly CommandSpec[];
}

export interface CommandTree {
  readonly commands: readonly CommandSpec[];
  /** Before a command. */
  readonly options: readonly OptionSpec[];
}

/** Names of values, as `--help` shows them, that are paths. */
const FILES = new Set(['file', 'folder', 'path', 'image', 'socket', 'address']);

/** What completions and the man page are made from: what commander was told, so that they have what `--help` shows. */
export function commandTree(program: Command): CommandTree {
  return { commands: visibleCommands(program).map(commandSpec), options: optionsOf(program) };
}

const visibleCommands = (parent: Command) => parent.createHelp().visibleCommands(parent);

/** Without the help that commander adds to every command that has some. */
function subcommandsOf(parent: Command): CommandSpec[] {
  return visibleCommands(parent)
    .filter((command) => parent.commands.includes(command))
    .map(commandSpec);
}

function commandSpec(command: Command): CommandSpec {
  return {
    name: command.name(),
    description: oneLine(command.description()),
    notes: notesOf(command),
    options: optionsOf(command),
    arguments: command.registeredArguments.map((argument) => argumentSpec(command, argument)),
    subcommands: subcommandsOf(command),
  };
}

function argumentSpec(command: Command, argument: Argument): ArgumentSpec {
  const name = `${argument.name()}${argument.variadic ? '...' : ''}`;
  return {
    term: argument.required ? `<${name}>` : `[${name}]`,
    help: oneLine(command.createHelp().argumentDescription(argument)),
    values: valuesOf(argument.name(), argument.argChoices),
  };
}

/** What `addHelpText` was given for behind the help, which only writing the whole tells. */
function notesOf(command: Command): string {
  let written = '';
  const writeOut = (text: string) => {
    written += text;
  };
  const before = command.configureOutput();
  command.configureOutput({ ...before, writeOut }).outputHelp();
  command.configureOutput(before);
  return written.slice(command.helpInformation().length).trim();
}

function optionsOf(command: Command): OptionSpec[] {
  const help = command.createHelp();
  return help.visibleOptions(command).map((option) => ({
    term: help.optionTerm(option),
    flags: [option.short, option.long].filter((flag) => flag !== undefined && flag !== null),
    description: oneLine(option.description),
    help: oneLine(help.optionDescription(option)),
    values: takesValue(option) ? valuesOf(valueName(option), option.argChoices) : undefined,
  }));
}

/** A value that may be left out is not waited for. */
const takesValue = (option: Option) => option.required;

/** `file` of `--config <file>`, `types` of `--type <types...>`. */
function valueName({ flags }: Option): string {
  return /[<[]([^>\].]+)/.exec(flags)?.[1] ?? '';
}

function valuesOf(name: string, choices: readonly string[] | undefined): Values {
  if (choices && choices.length > 0) return { choices };
  if (FILES.has(name)) return 'file';
  return name === 'disk' ? 'disk' : 'anything';
}

const oneLine = (text: string) => text.replace(/\s+/g, ' ').trim();
