import type { CommandSpec, CommandTree, OptionSpec, Values } from './command-tree.js';

/** A completion for fish. */
export function fishCompletion({ commands, options }: CommandTree): string {
  const lines = [
    '# fish completion of xen-blockd; made by: xen-blockd completion fish',
    'function __xen_blockd_disks',
    "  xen-blockd list --timeout 2 2>/dev/null | awk 'NR > 1 && NF > 4 { print $1 }'",
    'end',
    'complete -c xen-blockd -f',
    ...options.map((option) => line('__fish_use_subcommand', option)),
    ...commands.map(
      ({ name, description }) => `complete -c xen-blockd -n __fish_use_subcommand -a ${name} -d ${quoted(description)}`,
    ),
    ...commands.flatMap((command) => linesOf(command, `__fish_seen_subcommand_from ${command.name}`)),
  ];
  return `${lines.join('\n')}\n`;
}

/** Of a command that `condition` finds; where one of its subcommands was typed, of that. */
function linesOf(command: CommandSpec, condition: string): string[] {
  const { options, subcommands } = command;
  const [argument] = command.arguments;
  const names = subcommands.map(({ name }) => name).join(' ');
  const own = names === '' ? condition : `${condition}; and not __fish_seen_subcommand_from ${names}`;
  return [
    ...options.map((option) => line(own, option)),
    ...(argument ? [`complete -c xen-blockd -n ${quoted(own)} ${offered(argument.values)}`] : []),
    ...subcommands.flatMap((sub) => [
      `complete -c xen-blockd -n ${quoted(own)} -a ${sub.name} -d ${quoted(sub.description)}`,
      ...linesOf(sub, `${condition}; and __fish_seen_subcommand_from ${sub.name}`),
    ]),
  ];
}

function line(condition: string, { flags, description, values }: OptionSpec): string {
  const names = flags.map((flag) => (flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`));
  const value = values === undefined ? '' : ` ${values === 'file' ? '-r' : '-x'} ${offered(values)}`.trimEnd();
  return `complete -c xen-blockd -n ${quoted(condition)} ${names.join(' ')}${value} -d ${quoted(description)}`;
}

function offered(values: Values): string {
  if (values === 'file') return '-F';
  if (values === 'disk') return "-a '(__xen_blockd_disks)'";
  return values === 'anything' ? '' : `-a ${quoted(values.choices.join(' '))}`;
}

const quoted = (text: string) => `'${text.replace(/[\\']/g, '\\$&')}'`;
