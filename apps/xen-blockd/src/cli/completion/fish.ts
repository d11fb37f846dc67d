import type { CommandTree, OptionSpec, Values } from './command-tree.js';

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
    ...commands.flatMap(({ name, options: own, argument }) => {
      const condition = `__fish_seen_subcommand_from ${name}`;
      return [
        ...own.map((option) => line(condition, option)),
        ...(argument ? [`complete -c xen-blockd -n ${quoted(condition)} ${offered(argument)}`] : []),
      ];
    }),
  ];
  return `${lines.join('\n')}\n`;
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
