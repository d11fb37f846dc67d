import type { DiskConfig } from '@xenpv/xen-block';
import { deviceName } from '@xenpv/xenbus';

/**
 * What is so for each disk: what the first pattern has that is its image's path or its name (`qdisk-5-51712`), `otherwise`
 * where none is. `*` in a pattern stands for any characters, or none.
 */
export function byDisk<T>(patterns: Readonly<Record<string, T>>, otherwise: T): (config: DiskConfig) => T {
  const choices = Object.entries(patterns).map(([pattern, choice]) => [expressionOf(pattern), choice] as const);
  return ({ target, address }) => {
    const found = choices.find(([expression]) => expression.test(target) || expression.test(deviceName(address)));
    return found ? found[1] : otherwise;
  };
}

function expressionOf(pattern: string): RegExp {
  const parts = pattern.split('*').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`, 's');
}
