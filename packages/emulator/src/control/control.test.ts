import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { EmulatedHost, RemoteHost } from '@xenpv/emulator';
import { needs } from '@xenpv/test-support';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, expect } from 'vitest';
import { addon } from '../testing/addon.js';

const suite = needs(addon);

suite.describe('a host that is asked by other programs', () => {
  let directory: string;
  let host: EmulatedHost;
  let remote: RemoteHost;

  beforeEach(async () => {
    directory = mkdtempSync('/dev/shm/control-');
    host = await EmulatedHost.create({ directory, toolstackTimeoutMs: 200 });
    remote = await RemoteHost.connect(directory);
  });

  afterEach(async () => {
    await remote.close();
    await host.close();
    rmSync(directory, { recursive: true });
  });

  const names = async () => (await remote.domains()).map(({ name }) => name);

  suite.it('waits for an answer until the signal aborts', async () => {
    const { domid } = await remote.createDomain({ name: 'guest' });
    await remote.attachDisk(domid, { vdev: 'xvda', target: '/images/a' });
    const abort = new AbortController();
    const detached = remote.detachDisk(domid, 'xvda', { signal: abort.signal });
    abort.abort(new Error('enough'));
    await expect(detached).rejects.toThrow('enough');
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(remote.domains({ signal })).rejects.toThrow('enough');
    await expect(RemoteHost.connect(directory, { signal })).rejects.toThrow('enough');
    // The late answer to nobody disturbs nothing.
    expect(await names()).toContain('guest');
  });

  suite.it('makes domains and attaches disks to them', async () => {
    const { domid } = await remote.createDomain({ name: 'guest' });
    const { backendPath } = await remote.attachDisk(domid, { vdev: 'xvda', target: '/images/a' });
    const store = XenstoreClient.open(host.xenstored.connect(0));
    expect(await store.read(`${backendPath}/params`)).toBe('aio:/images/a');
    await remote.detachDisk(domid, 'xvda', { force: true });
    expect(await store.exists(backendPath)).toBe(false);
    await store.close();
    await remote.destroyDomain(domid);
    await remote.destroyDomain(domid);
    expect(await names()).toEqual(['Domain-0']);
  });

  suite.it('shuts domains down, and says why they do not run', async () => {
    const { domid } = await remote.createDomain({ name: 'guest', console: true });
    await remote.shutdown(domid, 'crash');
    const reasons = async () => (await remote.domains()).map(({ shutdownReason }) => shutdownReason);
    expect(await reasons()).toEqual([undefined, 'crash']);
    await expect(remote.shutdown(99)).rejects.toMatchObject({ code: 'ERR_NO_DOMAIN' });
    await expect(remote.shutdown(domid, 'tired' as 'crash')).rejects.toMatchObject({ code: 'ERR_COMMAND' });
    await remote.destroyDomain(domid);
    expect(await reasons()).toEqual([undefined]);
  });

  suite.it('destroys transient domains with the one who asked for them, others not', async () => {
    const other = await RemoteHost.connect(directory);
    await other.createDomain({ name: 'stays' });
    await other.createDomain({ name: 'goes', transient: true });
    expect(await names()).toEqual(['Domain-0', 'stays', 'goes']);
    await other.close();
    await other.close();
    await expect.poll(names).toEqual(['Domain-0', 'stays']);
    // Asked for by somebody who does not wait for the answer.
    const hasty = await RemoteHost.connect(directory);
    const lost = expect(hasty.createDomain({ name: 'hasty', transient: true })).rejects.toMatchObject({
      code: 'ERR_HOST',
    });
    await hasty.close();
    await lost;
    await expect.poll(names).toEqual(['Domain-0', 'stays']);
  });

  suite.it('answers what it cannot do with the error of the toolstack', async () => {
    await expect(remote.attachDisk(9, { vdev: 'xvda', target: '/a' })).rejects.toMatchObject({ code: 'ERR_NO_DOMAIN' });
    await expect(remote.detachDisk(0, 'nonsense')).rejects.toMatchObject({ code: 'ERR_VDEV' });
    await expect(remote.createDomain({ name: 'zero', domid: 0 })).rejects.toMatchObject({ code: 'ERR_EXISTS' });
    await host.close();
    await expect(remote.domains()).rejects.toMatchObject({ code: 'ERR_HOST' });
    await expect(RemoteHost.connect(directory)).rejects.toMatchObject({ code: 'ERR_HOST' });
  });

  suite.it('gives the code of another error that the host met as the cause of ERR_FAILED', async () => {
    const { domid } = await remote.createDomain({ name: 'long' });
    // More than xenstore takes.
    const attached = remote.attachDisk(domid, { vdev: 'xvda', target: 'x'.repeat(9000) });
    const expected = { name: 'ToolstackError', code: 'ERR_FAILED', cause: { code: 'ERR_TOO_LARGE' } };
    await expect(attached).rejects.toMatchObject(expected);
  });

  suite.it('ends a connection that says nonsense, and goes on', async () => {
    for (const nonsense of [
      '{}\n',
      'x\n',
      'null\n',
      '{"id":1,"command":"domains","arguments":7}\n',
      'y'.repeat(2 ** 21),
    ]) {
      const socket = createConnection(join(directory, 'control.sock'));
      socket.on('error', () => {});
      socket.write(nonsense);
      await new Promise((resolve) => socket.on('close', resolve));
    }
    for (const command of ['nonsense', 'toString', '__proto__']) {
      const socket = createConnection(join(directory, 'control.sock'));
      socket.write(`${JSON.stringify({ id: 1, command, arguments: [] })}\n`);
      const [answer] = (await once(socket, 'data')) as [Buffer];
      expect(JSON.parse(answer.toString())).toMatchObject({ error: { code: 'ERR_COMMAND' } });
      socket.destroy();
    }
    expect(await names()).toEqual(['Domain-0']);
  });
});
