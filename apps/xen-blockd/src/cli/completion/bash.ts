import type { CommandSpec, CommandTree, OptionSpec, Values } from './command-tree.js';

/** A completion for bash, which needs nothing else: bash-completion only loads it when it is asked for. */
export function bashCompletion({ commands, options }: CommandTree): string {
  const names = ['help', ...commands.map(({ name }) => name)];
  const cases = [{ name: '', options, argument: { choices: names } }, ...commands].map(caseOf).join('\n');
  return `# bash completion of xen-blockd; made by: xen-blockd completion bash
_xen_blockd() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} command= words= kind= i
  # --option=value is three words.
  [[ $cur == = ]] && cur=
  [[ $prev == = ]] && prev=\${COMP_WORDS[COMP_CWORD-2]}
  [[ $cur == '' && \${COMP_WORDS[COMP_CWORD]} == = ]] && prev=\${COMP_WORDS[COMP_CWORD-1]}
  for ((i = 1; i < COMP_CWORD; i++)); do
    if [[ \${COMP_WORDS[i]} != -* ]]; then
      command=\${COMP_WORDS[i]}
      break
    fi
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
    disk) [[ $cur == -* ]] || words=$(xen-blockd list --timeout 2 2>/dev/null | awk 'NR > 1 && NF > 4 { print $1 }') ;;
    anything) return ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _xen_blockd xen-blockd
`;
}

function caseOf({ name, options, argument }: Pick<CommandSpec, 'name' | 'options' | 'argument'>): string {
  const flags = options.flatMap((option) => option.flags).join(' ');
  const withValue = options.flatMap(optionCase).join('\n');
  return `    ${name || "''"})
      case $prev in
${withValue}${withValue && '\n'}        *)
          if [[ $cur == -* ]]; then words='${flags}'; else ${assignment(argument)}; fi
          ;;
      esac
      ;;`;
}

function optionCase({ flags, values }: OptionSpec): string[] {
  return values === undefined ? [] : [`        ${flags.join(' | ')}) ${assignment(values)} ;;`];
}

function assignment(values: Values | undefined): string {
  if (values === undefined) return 'kind=anything';
  return typeof values === 'string' ? `kind=${values}` : `words='${values.choices.join(' ')}'`;
}
