import type { DomainTable } from '../connection/domains.js';
import { type MutableQuotas, QUOTA_NAMES, quotaKey } from '../connection/limits.js';
import type { ErrnoName } from '../tree/store.js';

const OK = 'OK\0';
const HELP = ['check', 'help', 'log\ton|off', 'print\t<string>', 'quota\t[set <name> <val>|<domid>]'];

/** What CONTROL can ask about. */
export interface ControlContext {
  /** The limits of domains that have none of their own. */
  readonly quotas: MutableQuotas;
  readonly domains: DomainTable;
}

/** Answers CONTROL: those of the C daemon's commands that mean something here. */
export function control(context: ControlContext, words: readonly string[]): string | { readonly error: ErrnoName } {
  const [command, ...args] = words;
  if (command === 'help') return `${HELP.join('\n')}\n\0`;
  if (command === 'check' && args.length === 0) return OK;
  if (command === 'print' && args.length === 1) return OK;
  if (command === 'log' && (args[0] === 'on' || args[0] === 'off')) return OK;
  return command === 'quota' ? quota(context, args) : { error: 'EINVAL' };
}

function quota(context: ControlContext, args: readonly string[]): string | { readonly error: ErrnoName } {
  if (args.length === 0) return listing(context.quotas);
  if (args.length === 1) return usage(context.domains, Number(args[0]));
  const [verb, name, text] = args;
  const key = name === undefined ? undefined : quotaKey(name);
  const value = Number(text);
  if (verb !== 'set' || key === undefined || !Number.isInteger(value) || value < 1) return { error: 'EINVAL' };
  context.quotas[key] = value;
  return OK;
}

function listing(quotas: MutableQuotas): string {
  const lines = QUOTA_NAMES.map(
    ({ name, key, description }) => `${name.padEnd(17)}: ${String(quotas[key]).padStart(8)} ${description}\n`,
  );
  return `Quota settings:\n${lines.join('')}\0`;
}

function usage(domains: DomainTable, domid: number): string | { readonly error: ErrnoName } {
  const domain = domains.get(domid);
  if (domain === undefined) return { error: 'ENOENT' };
  const { owned, watches, transactions, outstanding } = domain;
  const lines = Object.entries({ nodes: owned.size, watches, transactions, outstanding }).map(
    ([name, value]) => `${name.padEnd(16)}: ${String(value).padStart(8)}\n`,
  );
  return `Domain ${domid}:\n${lines.join('')}\0`;
}
