import { QmpError } from '../errors.js';
import { checkMembers } from '../schema/check.js';
import type { DescribedCommand } from '../schema/introspection.js';
import type { QmpArguments, QmpMembers, QmpType } from '../schema/types.js';

/** What a command is given besides its arguments. */
export interface QmpCommandContext {
  /** Aborted when its client goes away, or the server closes. */
  readonly signal: AbortSignal;
}

/** A command of a server, as its author writes it. */
export interface QmpCommandDefinition<Members extends QmpMembers> {
  /** The members of its `arguments`. One that is missing, unknown or of a wrong type is refused before `run`. */
  readonly members: Members;
  /** Of the result; an empty object by default. Results are not checked. */
  readonly returns?: QmpType | undefined;
  /** What it throws reaches the client: a QmpError with its class, another error as a GenericError. */
  run(args: QmpArguments<Members>, context: QmpCommandContext): unknown;
}

/** A command that checks its arguments before it runs. */
export interface QmpCommand extends DescribedCommand {
  /** Does it; what it throws is the refusal. */
  execute(args: unknown, context: QmpCommandContext): Promise<unknown>;
}

/** Makes a command of its definition; the type of its arguments follows from `members`. */
export function qmpCommand<const Members extends QmpMembers>(definition: QmpCommandDefinition<Members>): QmpCommand {
  const { members, returns = { object: {} } } = definition;
  return {
    members,
    returns,
    async execute(args, context) {
      checkMembers(args, members);
      return (await definition.run(args as QmpArguments<Members>, context)) ?? {};
    },
  };
}

/** What a client is told of an error. */
export function refusalOf(error: unknown): { readonly class: string; readonly desc: string } {
  const desc = error instanceof Error ? error.message : String(error);
  return { class: (error instanceof QmpError && error.class) || 'GenericError', desc };
}
