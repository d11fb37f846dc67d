import type { DiskConfig, OnError } from '@xenpv/xen-block';
import { deviceName } from '@xenpv/xenbus';

/**
 * The policy for errors of each disk: that of the first pattern that is its image's path or its name (`qdisk-5-51712`),
 * `otherwise` where none is. `*` in a pattern stands for any characters, or none.
 */
export function onErrorPolicy(
  patterns: Readonly<Record<string, OnError>>,
  otherwise: OnError,
): (config: DiskConfig) => OnError {
  const policies = Object.entries(patterns).map(([pattern, policy]) => [expressionOf(pattern), policy] as const);
  return ({ target, address }) => {
    const found = policies.find(([expression]) => expression.test(target) || expression.test(deviceName(address)));
    return found?.[1] ?? otherwise;
  };
}

function expressionOf(pattern: string): RegExp {
  const parts = pattern.split('*').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`, 's');
}
