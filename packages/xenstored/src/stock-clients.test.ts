import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { find, needs } from '@xenpv/test-support';
import { XsOp } from '@xenpv/xenstore';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { RawClient } from './testing/raw-client.js';
import { EmulatedXenstored } from './xenstored.js';

const run = promisify(execFile);

let dir: string;
let daemon: EmulatedXenstored;
let tool: RawClient;
let socket: string;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'emulated-xenstored-'));
  socket = join(dir, 'socket');
  daemon = new EmulatedXenstored();
  await daemon.listen(socket);
  tool = RawClient.onTransport(daemon.connect(0));
});

afterAll(async () => {
  await daemon.close();
  rmSync(dir, { recursive: true });
});

async function command(name: string, ...args: string[]): Promise<string> {
  const { stdout } = await run(name, args, { env: { ...process.env, XENSTORED_PATH: socket }, timeout: 20_000 });
  return stdout;
}

needs('xenstore-ls').describe('Debian’s xenstore tools', () => {
  it('write, read, list and remove', async () => {
    await command('xenstore-write', '/tools/a', '1', '/tools/b/c', 'two words');
    expect(await command('xenstore-read', '/tools/a', '/tools/b/c')).toBe('1\ntwo words\n');
    expect(await command('xenstore-list', '/tools')).toBe('a\nb\n');
    expect(await command('xenstore-ls', '/tools')).toBe('a = "1"\nb = ""\n c = "two words"\n');
    expect(await command('xenstore-ls', '-f', '-p', '/tools/b')).toMatch(/^\/tools\/b\/c = "two words" {2}.*\(n0\)\n$/);
    await command('xenstore-chmod', '/tools/a', 'n0', 'r3');
    expect(await command('xenstore-ls', '-fp', '/tools')).toContain('(n0,r3)');
    await expect(command('xenstore-exists', '/tools/none')).rejects.toThrow();
    await command('xenstore-rm', '/tools');
    await expect(command('xenstore-read', '/tools/a')).rejects.toThrow(/couldn't read path/);
  });

  it('list a directory that takes several messages', async () => {
    for (let i = 0; i < 400; i++) await tool.ask(XsOp.write, `/long/a-child-with-a-rather-long-name-${i}\0${i}`);
    const lines = (await command('xenstore-ls', '/long')).trim().split('\n');
    expect(lines).toHaveLength(400);
    expect(lines[399]).toBe('a-child-with-a-rather-long-name-399 = "399"');
  });

  it('watch', async () => {
    const watcher = spawn('xenstore-watch', ['-n', '3', '/watched'], {
      env: { ...process.env, XENSTORED_PATH: socket },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    watcher.stdout.on('data', (chunk) => (output += chunk));
    const ended = new Promise((resolve) => watcher.once('exit', resolve));
    while (daemon.watchCount === 0) await tool.ask(XsOp.read, '/tool\0').then(() => new Promise(setImmediate));
    await command('xenstore-write', '/watched', 'x');
    await command('xenstore-write', '/watched/below', 'y');
    expect(await ended).toBe(0);
    expect(output).toBe('/watched\n/watched\n/watched/below\n');
  });
});

needs('test-xenstore').describe('Xen’s test-xenstore', () => {
  it('passes all its tests', async () => {
    const output = await command(find('test-xenstore')!, '-i', '20');
    expect(output.trim().split('\n')).toHaveLength(12);
  });
});

needs('pyxs').describe('python3-pyxs', () => {
  it('reads, writes, watches and commits', async () => {
    const program = `
import sys, pyxs
with pyxs.Client(unix_socket_path=sys.argv[1]) as client:
    client.write(b'/pyxs/a', b'1')
    print(client.read(b'/pyxs/a'), client.list(b'/pyxs'), client.get_perms(b'/pyxs'), client.get_domain_path(3))
    monitor = client.monitor()
    monitor.watch(b'/pyxs', b'token')
    print(next(monitor.wait()))
    monitor.unwatch(b'/pyxs', b'token')
    client.transaction()
    client.write(b'/pyxs/a', b'2')
    client.commit()
    print(client.read(b'/pyxs/a'), client.exists(b'/pyxs/b'), client.is_domain_introduced(9))
    client.delete(b'/pyxs')
    try:
        client.read(b'/pyxs/a')
    except pyxs.PyXSError as error:
        print(error.args[0])
`;
    expect(await command('/usr/bin/python3', '-c', program, socket)).toBe(
      [
        `b'1' [b'a'] [b'n0'] b'/local/domain/3'`,
        `Event(path=b'/pyxs', token=b'token')`,
        `b'2' False False`,
        '2',
        '',
      ].join('\n'),
    );
  });
});
