import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';

const read = (path: string) => readFile(new URL(path, import.meta.url), 'utf8');

it('the README shows the test of a backend as it is compiled and run', async () => {
  const section = /^## Testing your own backend\n(.*?)^## /ms.exec(await read('../README.md'))?.[1] ?? '';
  const blocks = [...section.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code]) => code);
  expect(blocks).toHaveLength(3);
  expect(blocks.join('\n')).toBe(await read('testing/your-own-backend.test.ts'));
});

it('the README names every fault that a host has', async () => {
  const readme = await read('../README.md');
  const code = await read('faults/host-faults.ts');
  const faults = [...code.matchAll(/^ {2}(\w+)\(target[^)]*\): HostFault \{$/gm)].map(([, name]) => name);
  expect(faults).toHaveLength(8);
  for (const fault of faults) expect(readme).toContain(`| \`${fault}({`);
});
