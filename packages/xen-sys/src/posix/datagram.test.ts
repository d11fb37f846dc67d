import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { needs, working } from '@xenpv/test-support';
import { afterEach, beforeEach, expect } from 'vitest';
import { loadAddon } from '../addon/addon.js';
import { Errno } from '../errno.js';
import { sendDatagram } from './datagram.js';

/** Says `bound`, and then what it gets, once it is told so. */
const RECEIVER = `
import socket, sys
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
path = sys.argv[1]
receiver.bind('\\0' + path[1:] if path[0] == '@' else path)
print('bound', flush=True)
sys.stdin.readline()
while True:
    print(receiver.recv(1 << 20).decode(), flush=True)
`;

const { errno } = constants;

let folder: string;
let receiver: ChildProcess | undefined;
let said = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'datagram-'));
});
afterEach(async () => {
  await end();
  rmSync(folder, { recursive: true });
});

/** Ends the receiver; what it has said is all here then. */
async function end(): Promise<void> {
  const ending = receiver;
  receiver = undefined;
  if (!ending) return;
  const closed = once(ending, 'close');
  ending.kill('SIGKILL');
  await closed;
}

async function bind(path: string): Promise<void> {
  said = '';
  receiver = spawn('python3', ['-c', RECEIVER, path], { stdio: ['pipe', 'pipe', 'inherit'] });
  receiver.stdout?.on('data', (chunk) => {
    said += chunk;
  });
  await expect.poll(() => said, { timeout: 20_000 }).toBe('bound\n');
}

needs(working('the addon of xen-sys', loadAddon), 'python3').describe('a datagram', () => {
  needs().it.each(['file', 'abstract'])('to a socket, %s, arrives whole', async (kind) => {
    const path = kind === 'file' ? join(folder, 'socket') : `@datagram-${process.pid}`;
    await bind(path);
    receiver?.stdin?.write('read\n');
    expect(sendDatagram(path, Buffer.from('one'))).toBe(0);
    expect(sendDatagram(path, Buffer.from('two'), { wait: true })).toBe(0);
    await expect.poll(() => said, { timeout: 20_000 }).toBe('bound\none\ntwo\n');
  });

  needs().it('to a receiver that has no room is refused at once, and none that was taken is lost', async () => {
    const path = join(folder, 'socket');
    await bind(path);
    let taken = 0;
    let result = 0;
    for (; result === 0 && taken < 100_000; taken++) result = sendDatagram(path, Buffer.from(`${taken}`));
    expect(result).toBe(Errno.EAGAIN);
    receiver?.stdin?.write('read\n');
    const all = Array.from({ length: taken - 1 }, (_, i) => `${i}\n`).join('');
    await expect.poll(() => said, { timeout: 20_000 }).toBe(`bound\n${all}`);
    expect(sendDatagram(path, Buffer.from('again'))).toBe(0);
  });

  needs().it('that is too long, or for nobody, is an errno', async () => {
    const path = join(folder, 'socket');
    expect(sendDatagram(path, Buffer.from('x'))).toBe(Errno.ENOENT);
    expect(sendDatagram(join(folder, 'x'.repeat(120)), Buffer.from('x'))).toBe(-errno.ENAMETOOLONG);
    await bind(path);
    expect(sendDatagram(path, Buffer.alloc(64 << 20))).toBe(-errno.EMSGSIZE);
    await end();
    expect(sendDatagram(path, Buffer.from('x'))).toBe(-errno.ECONNREFUSED);
  });
});
