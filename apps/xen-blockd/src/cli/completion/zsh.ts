import type { CommandSpec, CommandTree, OptionSpec, Values } from './command-tree.js';

/** A completion for zsh, to be named `_xen-blockd` in a folder of `fpath`. */
export function zshCompletion({ commands, options }: CommandTree): string {
  return `#compdef xen-blockd
# zsh completion of xen-blockd; made by: xen-blockd completion zsh
_xen-blockd_disks() {
  local -a disks
  disks=(\${(f)"$(xen-blockd list --timeout 2 2>/dev/null | awk 'NR > 1 && NF > 4 { print $1 }')"})
  compadd -a disks
}

_xen-blockd() {
  local curcontext=$curcontext state line
  local -a commands
  commands=(
${commands.map(({ name, description }) => `    ${quoted(`${name}:${description}`)}`).join('\n')}
  )
  _arguments -C ${options.map(optionSpec).join(' ')} '1: :->command' '*:: :->rest'
  case $state in
    command) _describe command commands ;;
    rest)
      case $words[1] in
${commands.map(caseOf).join('\n')}
      esac
      ;;
  esac
}

_xen-blockd "$@"
`;
}

function caseOf(command: CommandSpec): string {
  return `        ${command.name})${command.subcommands.map(subcommandOf).join('')} ${argumentsOf(command)} ;;`;
}

/** Where its name was typed it is the command, and what is before it does not count. */
function subcommandOf(subcommand: CommandSpec): string {
  return `
          if (( \${words[(i)${subcommand.name}]} < CURRENT )); then
            (( CURRENT -= \${words[(i)${subcommand.name}]} - 1 ))
            shift $(( \${words[(i)${subcommand.name}]} - 1 )) words
            ${argumentsOf(subcommand)}
            return
          fi
         `;
}

function argumentsOf(command: CommandSpec): string {
  const names = command.subcommands.map(({ name }) => name).join(' ');
  const positions = command.arguments.map(({ values }, i) => {
    const offered = action(values);
    return quoted(`${i + 1}: :${i === 0 && names !== '' ? `{${offered}; compadd ${names}}` : offered}`);
  });
  return `_arguments ${[...command.options.map(optionSpec), ...positions].join(' \\\n          ')}`;
}

function optionSpec({ flags, description, values }: OptionSpec): string {
  const text = `[${description.replace(/[[\]\\:]/g, '\\$&')}]`;
  const value = values === undefined ? '' : `: :${action(values)}`;
  const all = flags.length > 1 ? `(${flags.join(' ')})` : '';
  return flags.map((flag) => quoted(`${all}${flag}${text}${value}`)).join(' ');
}

function action(values: Values): string {
  if (values === 'file') return '_files';
  if (values === 'disk') return '_xen-blockd_disks';
  return values === 'anything' ? ' ' : `(${values.choices.join(' ')})`;
}

const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
