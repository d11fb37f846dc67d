import { Argument, type Command } from 'commander';
import { bashCompletion } from './completion/bash.js';
import { type CommandTree, commandTree } from './completion/command-tree.js';
import { fishCompletion } from './completion/fish.js';
import { zshCompletion } from './completion/zsh.js';

const SHELLS: Readonly<Record<string, (tree: CommandTree) => string>> = {
  bash: bashCompletion,
  zsh: zshCompletion,
  fish: fishCompletion,
};

/** `xen-blockd completion SHELL`: of all commands that `program` has when it is asked. */
export function addCompletion(program: Command): void {
  program
    .command('completion')
    .description('print the completion of a shell')
    .addArgument(new Argument('<shell>', 'whose').choices(Object.keys(SHELLS)))
    .addHelpText('after', EXAMPLES)
    .action((shell: string) => {
      process.stdout.write(SHELLS[shell](commandTree(program)));
    });
}

const EXAMPLES = `
Examples:
  xen-blockd completion bash > /etc/bash_completion.d/xen-blockd
  xen-blockd completion zsh > /usr/local/share/zsh/site-functions/_xen-blockd
  xen-blockd completion fish > /etc/fish/completions/xen-blockd.fish`;
