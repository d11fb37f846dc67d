import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
// The other process cannot load TypeScript, so this one too runs what was built.
import { EmulatedHost, joinHost } from '@xenpv/emulator';
import { needs } from '@xenpv/test-support';
import { expect, it, onTestFinished } from 'vitest';
import { addon } from '../testing/addon.js';

const suite = needs(addon);

/** A strict host in a folder, with a page of a guest, and a process that joined as domain 0. */
async function scene() {
  const directory = mkdtempSync(join('/dev/shm', 'emulator-'));
  const host = await EmulatedHost.create({ directory, strict: true });
  const guest = await host.createDomain({ name: 'guest', memoryMiB: 1 });
  const { refs } = guest.provider.openGrantAllocator().allocate(0, 1, { writable: true });
  const program = fileURLToPath(new URL('../testing/obedient-process.mjs', import.meta.url));
  const child = fork(program, [directory, guest.domid, refs[0]].map(String));
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await host.close();
    rmSync(directory, { recursive: true });
  });
  await once(child, 'message');
  const outcome = async (task: string): Promise<unknown> => {
    child.send(task);
    return (await once(child, 'message'))[0];
  };
  return { host, guest, outcome };
}

suite.describe('a process that joined a host', () => {
  suite.it('feels faults of maps and of xenstore while they are on', { timeout: 60_000 }, async () => {
    const { host, guest, outcome } = await scene();
    const unmappable = host.faults.failMaps({ domid: guest.domid });
    expect(await outcome('map')).toBe('EAGAIN');
    expect(unmappable.hits).toBe(1);
    unmappable.end();
    expect(await outcome('map')).toBe('done');
    const cut = host.faults.cutXenstore({ domid: 0 });
    expect(await outcome('xenstore')).not.toBe('done');
    expect(cut.hits).toBeGreaterThan(0);
    cut.end();
    expect(await outcome('xenstore')).toBe('done');
  });

  suite.it('hears of its writes through a mapping to be read only', { timeout: 60_000 }, async () => {
    const { host, guest, outcome } = await scene();
    expect(await outcome('misuse')).toBe('EFAULT');
    expect(guest.usage().mapped).toBe(0);
    expect(await outcome('map')).toBe('done');
    expect(host.misuses()).toEqual([]);
  });
});

it('a host that takes a process in and never says so is waited for until the signal is aborted', async () => {
  const directory = mkdtempSync(join('/dev/shm', 'emulator-'));
  const silent = createServer();
  silent.listen(join(directory, 'host.sock'));
  const abort = new AbortController();
  const { signal } = abort;
  const joining = joinHost(directory, { signal });
  const [socket] = await once(silent, 'connection');
  const other = joinHost(directory);
  abort.abort(new Error('enough'));
  await expect(joining).rejects.toThrow('enough');
  await expect(joinHost(directory, { signal })).rejects.toThrow('enough');
  // It is joined once, and whoever else asked waits on.
  socket.destroy();
  await expect(other).rejects.toMatchObject({ code: 'ERR_NO_DEVICE' });
  silent.close();
  rmSync(directory, { recursive: true });
});
