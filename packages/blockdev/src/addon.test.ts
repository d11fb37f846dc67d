import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { needs, working } from '@xenpv/test-support';
import { describe, expect } from 'vitest';
import { loadAddon } from './addon.js';
import { packageRoot } from './package-root.js';
import { allocateMemory } from './queue/buffer.js';
import { threadRing } from './uring/thread-ring.js';

const STRESS = fileURLToPath(new URL('test/addon-stress.mjs', packageRoot()));
const addon = working('the native addon', loadAddon);
const uring = { name: 'io_uring', met: () => typeof threadRing() !== 'string' };
/** How often values are drawn by chance, and from which seed. */
const { NATIVE_ROUNDS = '1000', NATIVE_SEED = '1' } = process.env;
const SECONDS = 120;

/** A process of its own: what goes wrong there would end this one. */
async function stress(scenario: string, kind = 'io_uring'): Promise<string> {
  const args = ['--expose-gc', STRESS, scenario, NATIVE_SEED, NATIVE_ROUNDS, kind];
  return (await promisify(execFile)(process.execPath, args)).stdout;
}

needs(addon).it(
  'every function throws a TypeError or a RangeError for whatever it does not take, and the process lives on',
  async () => expect(await stress('odd arguments')).toMatch(/^\d{4,} calls/),
  SECONDS * 1000,
);

describe.each(['io_uring', 'threads'])('a queue of the addon with %s, with nothing that checks before it', (kind) => {
  (kind === 'io_uring' ? needs(addon, uring) : needs(addon)).it.each([
    ['ends each operation once, whatever is staged, and touches its regions only', 'odd operations'],
    ['is closed once, with nothing in flight, and not by the handle of an earlier one', 'closed and closed again'],
    ['takes no more than it has slots, and no arrays that could be taken away', 'more than fits'],
    ['keeps memory that JavaScript lets go of while operations use it', 'buffers taken away'],
    ['refuses operations on regions that it does not have any more', 'regions that went'],
    ['moves data at addresses that O_DIRECT refuses', 'odd addresses'],
  ])('%s', async (_title, scenario) => void (await stress(scenario, kind)), SECONDS * 1000);
});

needs(addon, uring).it(
  'a sleep in the ring ends, whatever its words are, and ports come to their array only',
  async () => void (await stress('odd sleeps')),
  SECONDS * 1000,
);

needs(addon).describe('buffer memory', () => {
  needs().it.each([
    ['has a page before and one behind that nobody can touch', 'guard pages'],
    ['is given back when nobody has it any more', 'memory is given back'],
  ])('%s', async (_title, scenario) => void (await stress(scenario)), SECONDS * 1000);

  needs(addon).it('of queues is whole pages of zeroes, aligned', () => {
    const memory = new Uint8Array(allocateMemory(5000));
    expect(memory.byteLength).toBe(8192);
    expect(memory.every((byte) => byte === 0)).toBe(true);
    expect(loadAddon().address(memory) % 4096).toBe(0);
    expect(() => allocateMemory(2 ** 45)).toThrow(RangeError);
  });
});
