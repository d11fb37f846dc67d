import { truncateSync, writeFileSync } from 'node:fs';
import { setTimeout as after } from 'node:timers/promises';
import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { afterEach, beforeEach, expect, vi } from 'vitest';
import { Cleanup } from '../cleanup.js';
import { FolderHost } from '../testing/folder-host.js';
import { attachTo, GuestLoad } from '../testing/guest-load.js';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 30_000 });

const ROUNDS = 10;
const SEED = Number(process.env.TWO_DAEMONS_SEED ?? 1);
/** Two starts are as far apart at most, in milliseconds: the time that a start takes. */
const APART_MS = 400;
const SOON = { timeout: 30_000 };

let host: FolderHost;
let cleanup: Cleanup;
beforeEach(async () => {
  host = await FolderHost.start();
  cleanup = new Cleanup();
});
afterEach(async () => {
  await cleanup[Symbol.asyncDispose]();
  await host[Symbol.asyncDispose]();
});

/** Milliseconds from the start of one to that of the other: none in each other round. */
const apart = (round: number) => (round % 2 === 0 ? 0 : ((SEED * 7919 + round * 104_729) % 997) * (APART_MS / 997));

const { it } = needs(working('the addon of xen-sys', requireNativeAddon));

it('of two daemons that are started at once one serves, the other says which, and no journal is damaged', async () => {
  const image = host.path('image');
  writeFileSync(image, '');
  truncateSync(image, 8 << 20);
  let serving = await host.daemon();
  const disk = await attachTo(host.directory, cleanup, { target: image });
  const load = new GuestLoad(disk, { operations: 20, timeoutMs: SOON.timeout });
  await load.goesOn();
  for (let round = 0; round < ROUNDS; round++) {
    await host.kill(serving);
    const first = host.starting('--threads', String(round % 3));
    await after(apart(round));
    const both = [first, host.starting('--threads', '0')];
    const ended = await Promise.race(both.map(async (each) => ({ each, ...(await each.ended) })));
    const [winner] = both.filter((each) => each !== ended.each);
    expect([ended.code, ended.stderr], `round ${round}`).toEqual([
      75,
      expect.stringContaining(`xen-blockd runs already (pid ${winner.child.pid})`),
    ]);
    // It has begun nothing.
    expect(ended.stderr).not.toContain('"serving"');
    await expect.poll(() => winner.stderr, SOON).toContain('"adopted":true');
    expect(winner.stderr).not.toMatch(/taken over without its journal|held, its guest waits/);
    await load.goesOn();
    serving = winner;
  }
  await load.end();
});
