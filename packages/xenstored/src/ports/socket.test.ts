import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeMessage, XsOp } from '@xenpv/xenstore';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { RawClient } from '../testing/raw-client.js';
import { EmulatedXenstored } from '../xenstored.js';

let dir: string;
let daemon: EmulatedXenstored;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'emulated-xenstored-'));
  daemon = new EmulatedXenstored();
});

afterEach(async () => {
  await daemon.close();
  rmSync(dir, { recursive: true });
});

describe('xenstored on a Unix socket', () => {
  it('serves several clients on several sockets as domain 0', async () => {
    await daemon.listen(join(dir, 'a'));
    await daemon.listen(join(dir, 'b'));
    const clients = [await RawClient.onSocket(join(dir, 'a')), await RawClient.onSocket(join(dir, 'b'))] as const;
    expect(await clients[0].ask(XsOp.watch, '/x\0t\0')).toBe('OK\0');
    expect(await clients[1].ask(XsOp.write, '/x\0v')).toBe('OK\0');
    expect(await clients[0].takeEvents()).toEqual(['/x t', '/x t']);
    expect(await clients[0].ask(XsOp.write, 'relative\0v')).toBe('OK\0');
    expect(await clients[1].ask(XsOp.read, '/local/domain/0/relative\0')).toBe('v');
    for (const client of clients) client.close();
  });

  it('lets only its own user in', async () => {
    await daemon.listen(join(dir, 's'));
    expect(statSync(join(dir, 's')).mode & 0o777).toBe(0o600);
  });

  it('says what is wrong with a path', async () => {
    const path = join(dir, 's');
    await daemon.listen(path);
    const listen = (at: string) => new EmulatedXenstored().listen(at);
    await expect(listen(path)).rejects.toMatchObject({ code: 'EADDRINUSE', path, op: 'xenstored.listen' });
    writeFileSync(join(dir, 'file'), '');
    await expect(listen(join(dir, 'file'))).rejects.toMatchObject({ code: 'EEXIST' });
    await expect(listen(join(dir, 'no', 'such'))).rejects.toMatchObject({ name: 'XenSysError' });
    await expect(listen(join(dir, 'x'.repeat(108)))).rejects.toMatchObject({ code: 'ENAMETOOLONG' });
    const client = await RawClient.onSocket(path);
    expect(await client.ask(XsOp.read, '/tool\0')).toBe('');
    client.close();
  });

  it('replaces what a dead process left', async () => {
    const path = join(dir, 's');
    const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
    const { spawnSync } = await import('node:child_process');
    spawnSync(process.execPath, ['-e', script]);
    await daemon.listen(path);
    const client = await RawClient.onSocket(path);
    expect(await client.ask(XsOp.read, '/tool\0')).toBe('');
    client.close();
  });

  it('frees the path when closed', async () => {
    const path = join(dir, 's');
    await daemon.listen(path);
    const client = await RawClient.onSocket(path);
    await Promise.all([daemon.close(), daemon.close(), client.untilClosed()]);
    const next = createServer();
    await new Promise<void>((resolve, reject) => next.once('error', reject).listen(path, resolve));
    await new Promise((resolve) => next.close(resolve));
  });

  it('closes a client that claims too long a message, and no other', async () => {
    const path = join(dir, 's');
    await daemon.listen(path);
    const [bad, good] = [await RawClient.onSocket(path), await RawClient.onSocket(path)];
    const header = encodeMessage(XsOp.read, 1, 0, Buffer.alloc(0));
    new DataView(header.buffer, header.byteOffset).setUint32(12, 0xffffffff, true);
    bad.sendRaw(header);
    await bad.untilClosed();
    expect(await good.ask(XsOp.write, `/x\0${'v'.repeat(4093)}`)).toBe('OK\0');
    expect(await good.ask(XsOp.read, '/x\0')).toHaveLength(4093);
    good.close();
  });

  it('takes messages byte by byte, and forgets a client that goes in the middle of one', async () => {
    const path = join(dir, 's');
    await daemon.listen(path);
    const stream = connect(path);
    const answer = new Promise<Buffer>((resolve) => stream.once('data', resolve));
    for (const byte of encodeMessage(XsOp.watch, 9, 0, Buffer.from('/x\0t\0'))) stream.write(Buffer.of(byte));
    expect((await answer)[0]).toBe(XsOp.watch);
    expect(daemon.watchCount).toBe(1);
    stream.end(Buffer.alloc(7));
    const client = await RawClient.onSocket(path);
    while (daemon.watchCount > 0) await client.takeEvents();
    client.close();
  });

  it('answers ten thousand requests of a client that reads only afterwards', async () => {
    const path = join(dir, 's');
    await daemon.listen(path);
    const stream = connect(path);
    stream.pause();
    const value = 'v'.repeat(1000);
    stream.write(encodeMessage(XsOp.write, 1, 0, Buffer.from(`/x\0${value}`)));
    for (let i = 0; i < 10_000; i++) stream.write(encodeMessage(XsOp.read, i, 0, Buffer.from('/x\0')));
    let bytes = 0;
    const expected = 16 + 3 + 10_000 * 1016;
    await new Promise<void>((resolve) => {
      stream.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes === expected) resolve();
      });
      stream.resume();
    });
    stream.destroy();
  });
});
