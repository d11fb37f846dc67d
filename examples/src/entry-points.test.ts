import { readdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';

const require = createRequire(import.meta.url);
const packages = fileURLToPath(new URL('../../packages/', import.meta.url));

/** What a thread that runs this program says before it ends. */
async function saidBy(program: string, workerData: unknown): Promise<unknown[]> {
  const worker = new Worker(program, { eval: true, workerData });
  const said: unknown[] = [];
  worker.on('message', (message) => said.push(message));
  await new Promise<void>((resolve, reject) => worker.once('exit', () => resolve()).once('error', reject));
  return said;
}

describe('the thread of a data plane', () => {
  const esm = JSON.stringify(import.meta.resolve('@xenpv/xen-block/worker'));
  const cjs = JSON.stringify(require.resolve('@xenpv/xen-block/worker'));

  it.each([
    [
      'ES modules',
      `import(${esm}).then((module) => require('worker_threads').parentPort.postMessage(Object.keys(module).length));`,
    ],
    ['CommonJS', `require('worker_threads').parentPort.postMessage(Object.keys(require(${cjs})).length);`],
  ])('does nothing where its module is only imported, as %s', async (_, program) => {
    for (const data of [undefined, { provider: { module: 'no-such-module', data: 1 } }]) {
      expect(await saidBy(program, data)).toEqual([0]);
    }
    await import('@xenpv/xen-block/worker');
    require('@xenpv/xen-block/worker');
  });

  it.each([
    ['ES modules', `import(${esm});`],
    ['CommonJS', `require(${cjs});`],
  ])('takes a provider from a file: URL, as %s', async (_, program) => {
    const provider = `export function attachProvider() { throw new Error('attached'); }`;
    const module = `data:text/javascript,${encodeURIComponent(provider)}`;
    const data = { role: 'xen-block data plane', provider: { module, data: undefined }, options: {} };
    await expect(saidBy(program, data)).rejects.toThrow('attached');
  });
});

it('the source maps of the packages carry no sources, and no folder of the machine that built them', async () => {
  for (const name of await readdir(packages)) {
    const dist = join(packages, name, 'dist');
    for (const entry of ['index.js.map', 'index.cjs.map']) {
      const map = JSON.parse(await readFile(join(dist, entry), 'utf8'));
      expect(map.sourcesContent ?? [], `${name} ${entry}`).toEqual([]);
      expect(map.sources.filter((source: string) => !/^(\.\.\/src\/|index\.cjs$)/.test(source))).toEqual([]);
    }
  }
});
