import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { needs, working } from '@xenpv/test-support';
import { expect } from 'vitest';
import { packageRoot } from '../package-root.js';
import { loadAddon } from './addon.js';

const STRESS = fileURLToPath(new URL('test/addon-stress.mjs', packageRoot()));
/** How often values are drawn by chance, and from which seed. */
const { NATIVE_ROUNDS = '1000', NATIVE_SEED = '1' } = process.env;
const SECONDS = 120;

/** A process of its own: what goes wrong there would end this one. */
async function stress(scenario: string): Promise<string> {
  const args = ['--expose-gc', STRESS, scenario, NATIVE_SEED, NATIVE_ROUNDS];
  return (await promisify(execFile)(process.execPath, args)).stdout;
}

needs(working('the native addon', loadAddon)).describe('the addon', () => {
  needs().it(
    'throws a TypeError or a RangeError for whatever a function does not take, and the process lives on',
    async () => expect(await stress('odd arguments')).toMatch(/^\d{4,} calls/),
    SECONDS * 1000,
  );

  needs().it.each([
    ['does not take an object of one class for one of another', 'one class for another'],
    ['answers EBADF after a close, and takes a second one', 'closed and closed again'],
    ['looks for memory that was taken away before it uses it', 'buffers taken away'],
    ['refuses an ioctl whose argument is shorter than the request says', 'short arguments of requests'],
    ['leaves no file open and no memory mapped', 'nothing is left'],
  ])('%s', async (_title, scenario) => void (await stress(scenario)), SECONDS * 1000);
});
