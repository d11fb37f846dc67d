import type { ArgumentSpec, CommandSpec, CommandTree, OptionSpec, Values } from './command-tree.js';

/** A completion for bash, which needs nothing else: bash-completion only loads it when it is asked for. */
export function bashCompletion({ commands, options }: CommandTree): string {
  const names = ['help', ...commands.map(({ name }) => name)];
  const top = { name: '', options, arguments: [{ values: { choices: names } }], subcommands: [] };
  const cases = [top, ...commands.flatMap(withSubcommands)].map(caseOf).join('\n');
  const pairs = commands.flatMap(({ name, subcommands }) => subcommands.map((sub) => `'${name} ${sub.name}'`));
  return `# bash completion of xen-blockd; made by: xen-blockd completion bash
_xen_blockd() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} command= words= kind= i
  # --option=value is three words.
  [[ $cur == = ]] && cur=
  [[ $prev == = ]] && prev=\${COMP_WORDS[COMP_CWORD-2]}
  [[ $cur == '' && \${COMP_WORDS[COMP_CWORD]} == = ]] && prev=\${COMP_WORDS[COMP_CWORD-1]}
  for ((i = 1; i < COMP_CWORD; i++)); do
    [[ \${COMP_WORDS[i]} == -* ]] && continue
    if [[ $command == '' ]]; then
      command=\${COMP_WORDS[i]}
      continue
    fi
    case "$command \${COMP_WORDS[i]}" in
      ${pairs.join(' | ')}) command+=" \${COMP_WORDS[i]}" ;;
    esac
  done
  case $command in
${cases}
    help) words='${commands.map(({ name }) => name).join(' ')}' ;;
  esac
  COMPREPLY=()
  case $kind in
    file)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    disk) [[ $cur == -* ]] || words+=" $(xen-blockd list --timeout 2 2>/dev/null | awk 'NR > 1 && NF > 4 { print $1 }')" ;;
    anything) return ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _xen_blockd xen-blockd
`;
}

/** A command, and each of its subcommands under both names. */
function withSubcommands(command: CommandSpec): CommandSpec[] {
  return [command, ...command.subcommands.map((sub) => ({ ...sub, name: `${command.name} ${sub.name}` }))];
}

/** What is completed behind a command's name, or at the top behind the program's. */
interface Completed extends Pick<CommandSpec, 'name' | 'options' | 'subcommands'> {
  readonly arguments: readonly Pick<ArgumentSpec, 'values'>[];
}

/** What it offers does not depend on how many arguments there are before: values of options cannot be told from them. */
function caseOf(command: Completed): string {
  const { name, options, subcommands } = command;
  const offered = [assignment(command.arguments[0]?.values), ...subcommandWords(subcommands)].join(' ');
  const flags = options.flatMap((option) => option.flags).join(' ');
  const withValue = options.flatMap(optionCase).join('\n');
  return `    '${name}')
      case $prev in
${withValue}${withValue && '\n'}        *)
          if [[ $cur == -* ]]; then words='${flags}'; else ${offered}; fi
          ;;
      esac
      ;;`;
}

function subcommandWords(subcommands: readonly CommandSpec[]): string[] {
  return subcommands.length === 0 ? [] : [`words='${subcommands.map(({ name }) => name).join(' ')}'`];
}

function optionCase({ flags, values }: OptionSpec): string[] {
  return values === undefined ? [] : [`        ${flags.join(' | ')}) ${assignment(values)} ;;`];
}

function assignment(values: Values | undefined): string {
  if (values === undefined) return 'kind=anything';
  return typeof values === 'string' ? `kind=${values}` : `words='${values.choices.join(' ')}'`;
}
