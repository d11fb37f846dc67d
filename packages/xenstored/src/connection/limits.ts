import type { XenstoredQuotas } from '../tree/quotas.js';

/** The limits in force, which CONTROL and SET_QUOTA change. */
export type MutableQuotas = { -readonly [Name in keyof XenstoredQuotas]: number };

/** A quota as clients name it, and what CONTROL says of it. */
interface QuotaName {
  readonly name: string;
  readonly key: keyof XenstoredQuotas;
  readonly description: string;
}

/** In the C daemon's order. */
export const QUOTA_NAMES: readonly QuotaName[] = [
  { name: 'nodes', key: 'nodes', description: 'Nodes per domain' },
  { name: 'watches', key: 'watches', description: 'Watches per domain' },
  { name: 'transactions', key: 'transactions', description: 'Transactions per domain' },
  { name: 'outstanding', key: 'outstanding', description: 'Outstanding requests per domain' },
  { name: 'transaction-nodes', key: 'transactionNodes', description: 'Accessed nodes per transaction' },
  { name: 'memory', key: 'outputBytes', description: 'Waiting output per domain' },
  { name: 'node-size', key: 'nodeBytes', description: 'Size of a node' },
  { name: 'path-max', key: 'pathBytes', description: 'Length of a node path' },
  { name: 'permissions', key: 'permissions', description: 'Permissions per node' },
];

/** Gives a domain other limits; what this returns gives it back those that it had. */
export function limitQuotas(quotas: MutableQuotas, limits: Partial<XenstoredQuotas>): () => void {
  const had = Object.getOwnPropertyDescriptors(quotas);
  const names = (Object.keys(limits) as (keyof XenstoredQuotas)[]).filter((name) => limits[name] !== undefined);
  for (const name of names) quotas[name] = limits[name] ?? quotas[name];
  return () => {
    for (const name of names) {
      const own = had[name];
      if (own === undefined) delete (quotas as Partial<MutableQuotas>)[name];
      else quotas[name] = own.value as number;
    }
  };
}

/** The quota of this name. */
export function quotaKey(name: string): keyof XenstoredQuotas | undefined {
  return QUOTA_NAMES.find((quota) => quota.name === name)?.key;
}

/** The limits of a guest: the common ones, where it is not given its own. */
export function guestQuotas(common: MutableQuotas): MutableQuotas {
  return Object.create(common) as MutableQuotas;
}

/** The limits of domain 0: only the common length of paths. */
export function privilegedQuotas(common: MutableQuotas): MutableQuotas {
  const quotas = guestQuotas(common);
  for (const { key } of QUOTA_NAMES) if (key !== 'pathBytes') quotas[key] = Number.POSITIVE_INFINITY;
  return quotas;
}
