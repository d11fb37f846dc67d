import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { askDaemon } from '../control/ask-daemon.js';
import { privilegesOf } from '../privileges/process-privileges.js';
import { RunFolder } from '../testing/run-folder.js';

// A program starts, with all that else runs on the machine.
vi.setConfig({ testTimeout: 60_000 });

let folder: RunFolder;
let server: Server | undefined;

beforeEach(() => {
  folder = new RunFolder();
});
afterEach(async () => {
  server?.close();
  await folder[Symbol.asyncDispose]();
});

async function listenOn(where: { port: number; host: string } | { path: string }): Promise<Server> {
  server = createServer().listen(where);
  await once(server, 'listening');
  return server;
}

describe('sockets', () => {
  it('of metrics in use: a warning, disks are served, and the metrics are there when it is free', async () => {
    const holder = await listenOn({ port: 0, host: '127.0.0.1' });
    const address = `127.0.0.1:${(holder.address() as AddressInfo).port}`;
    folder.configure(`metrics = "${address}"`);
    const daemon = folder.run();
    await daemon.ready();
    expect(daemon.stderr.indexOf('no metrics')).toBeGreaterThan(-1);
    expect(daemon.stderr.indexOf('no metrics')).toBeLessThan(daemon.stderr.indexOf('"msg":"ready"'));
    const guest = await daemon.attach(folder.image);
    expect(await daemon.reads(guest)).toBe(true);
    holder.close();
    await daemon.says('metrics there again');
    expect(await (await fetch(`http://${address}/metrics`)).text()).toContain('xen_blockd_log_lines_lost_total 0');
    daemon.signal('SIGTERM');
    expect((await daemon.ended).code).toBe(0);
  });

  it('of control where none can be made: a warning, and disks are served', async () => {
    writeFileSync(folder.path('file'), '');
    folder.configure(`control-socket = "${folder.path('file/control')}"`);
    const daemon = folder.run();
    await daemon.says('no control socket');
    await daemon.ready();
    expect(await daemon.reads(await daemon.attach(folder.image))).toBe(true);
  });

  it('of control that somebody else has: the daemon ends before a disk is taken up', async () => {
    await listenOn({ path: folder.control });
    folder.configure();
    const { code, stderr } = await folder.run().ended;
    expect([code, stderr]).toEqual([1, expect.stringContaining('in use by another process')]);
    expect(existsSync(folder.control)).toBe(true);
  });

  it('of control that a killed daemon left: it is replaced', async () => {
    folder.configure();
    const killed = folder.run();
    await killed.ready();
    killed.signal('SIGKILL');
    await killed.ended;
    expect(existsSync(folder.control)).toBe(true);
    await folder.run().ready();
    expect(await askDaemon(folder.control, { command: 'x-query-disks' })).toEqual([]);
  });

  it.each(['localhost:99999', 'localhost:0', '[::1]', 'nonsense', '/', 'a b:9000', '[zz]:9000'])(
    'named by %s are a wrong configuration',
    async (address) => {
      folder.configure(`metrics = "${address}"`);
      const { code, stderr } = await folder.run().ended;
      expect([code, stderr]).toEqual([78, expect.stringContaining('HOST:PORT')]);
    },
  );
});

describe('the journal folder', () => {
  const left = 'requests in flight may be lost if this process is killed';

  it.each<[string, (path: string) => void, string]>([
    ['is a file', (path) => writeFileSync(path, ''), 'cannot be used'],
    ['is a link', (path) => symlinkSync(folder.directory, path), 'it is a link'],
    [
      'may be written by others',
      (path) => {
        mkdirSync(path);
        chmodSync(path, 0o777);
      },
      'chmod 700',
    ],
    ['is on a disk', (path) => mkdirSync(path, { mode: 0o700 }), 'it is on a disk'],
  ])('that %s is told at the start, and disks are served', async (_, make, problem) => {
    make(folder.path('folder'));
    folder.configure(`journal-directory = "${folder.path('folder')}"`);
    const daemon = folder.run();
    await daemon.ready();
    expect(daemon.stderr).toContain(left);
    expect(daemon.stderr).toContain(problem);
    expect(await daemon.reads(await daemon.attach(folder.image))).toBe(true);
  });

  it('below a file is told at the start, and disks are served', async () => {
    writeFileSync(folder.path('file'), '');
    folder.configure(`journal-directory = "${folder.path('file/journal')}"`);
    const daemon = folder.run();
    await daemon.ready();
    expect(daemon.stderr).toContain('cannot be used');
    expect(await daemon.reads(await daemon.attach(folder.image))).toBe(true);
  });

  it('in memory is taken without a word', async () => {
    const path = `/dev/shm/xen-blockd-test-${process.pid}`;
    folder.configure(`journal-directory = "${path}"`);
    const daemon = folder.run();
    await daemon.ready();
    expect(daemon.stderr).not.toContain(left);
    expect(existsSync(path)).toBe(true);
  });
});

describe('a start that fails', () => {
  const withXenstored = (trouble: string) => ({ env: { XEN_BLOCKD_TEST_XENSTORED: trouble } });

  it('ends the process, though a handle is left', async () => {
    folder.configure();
    const { code, stderr } = await folder.run([], withXenstored('refuses')).ended;
    expect([code, stderr]).toEqual([69, 'xen-blockd: no xenstored here\n']);
  });

  it('is not tried again at once by a service manager, and a signal ends that pause', async () => {
    folder.configure();
    const env = { XEN_BLOCKD_TEST_XENSTORED: 'refuses', NOTIFY_SOCKET: folder.path('nobody') };
    const daemon = folder.run([], { env });
    await daemon.says('waiting before the service manager starts it again');
    expect(daemon.child.exitCode).toBeNull();
    daemon.signal('SIGTERM');
    expect(await daemon.ended).toMatchObject({ code: 69, stderr: expect.stringContaining('no xenstored here') });
  });

  it('because of a wrong configuration ends at once under a service manager too', async () => {
    folder.configure('metrics = "nonsense"');
    const { code, stderr } = await folder.run([], { env: { NOTIFY_SOCKET: folder.path('nobody') } }).ended;
    expect([code, stderr]).toEqual([78, expect.not.stringContaining('waiting')]);
  });

  it('never, because xenstored is silent, is ended by one signal', async () => {
    folder.configure();
    const daemon = folder.run([], withXenstored('silent'));
    await expect.poll(() => existsSync(folder.control), { timeout: 20_000 }).toBe(true);
    daemon.signal('SIGTERM');
    expect((await daemon.ended).code).toBe(0);
  });
});

describe('a stop that does not come to its end', () => {
  it('is ended at once by a second signal', async () => {
    folder.configure();
    const daemon = folder.run([], { env: { XEN_BLOCKD_TEST_XENSTORED: 'stuck' } });
    await daemon.ready();
    daemon.signal('SIGTERM');
    await daemon.says('stopping');
    daemon.signal('SIGINT');
    expect((await daemon.ended).code).toBe(0);
    expect(daemon.stderr).not.toContain('not all could be closed');
  });

  it('is told and ended in time', async () => {
    folder.configure('stop-seconds = 1');
    const daemon = folder.run([], { env: { XEN_BLOCKD_TEST_XENSTORED: 'stuck' } });
    await daemon.ready();
    daemon.signal('SIGTERM');
    expect((await daemon.ended).code).toBe(0);
    expect(daemon.stderr).toContain('not all could be closed');
  });

  it('is no success at a second signal where no journal has what is in flight', async () => {
    folder.configure('journal-directory = false');
    const daemon = folder.run([], { env: { XEN_BLOCKD_TEST_XENSTORED: 'stuck' } });
    await daemon.ready();
    daemon.signal('SIGTERM');
    await daemon.says('stopping');
    daemon.signal('SIGTERM');
    expect((await daemon.ended).code).toBe(1);
  });
});

needs(working('the native addon', requireNativeAddon), 'Linux').it(
  'a daemon leaves no core dump, whoever starts it',
  async () => {
    folder.configure();
    const daemon = folder.run([], { under: ['sh', '-c', 'ulimit -c $(ulimit -Hc); exec "$@"', 'sh'] });
    await daemon.ready();
    expect(privilegesOf(daemon.child.pid ?? 0)).toMatchObject({ noCoreDumps: true });
  },
);
