import { copyFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type RunningBlockd, runBlockd } from '../testing/process.js';
import { RunFolder } from '../testing/run-folder.js';

// A program starts, with all that else runs on the machine.
vi.setConfig({ testTimeout: 120_000 });

let folder: RunFolder;
beforeEach(() => {
  folder = new RunFolder();
  folder.configure('log-level = "debug"', `metrics = "${folder.path('metrics')}"`);
});
afterEach(() => folder[Symbol.asyncDispose]());

const HOSTILE = [
  'x\n<3>forged: the disk is full\r',
  '\u001b]0;title\u0007\u001b[2J\u001b[31m',
  '\u007f\u0080\u009b31m\u0085<0>forged',
  '\u2028<3>forged\u2029<3>forged',
  '\u202eevil\u2066bidi\u200f',
] as const;
const KEYS = ['protocol', 'event-channel', 'ring-ref', 'multi-queue-num-queues', 'ring-page-order', 'state'] as const;

/** What no line and no node may have inside. */
const CONTROL = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u;

/** A guest that writes what it likes and asks for a connection, for each of these values of a key. */
function tries(daemon: RunningBlockd, attempts: [key: string, value: string][]): Promise<string[]> {
  return daemon.inXen(
    async ({ host, store, guestStore }, target, all) => {
      const { domid } = await host.createDomain({ name: 'hostile' });
      // Guests that only read share the image.
      await host.toolstack.attachDisk(domid, { vdev: 'xvda', target, readOnly: true });
      const guest = await guestStore(domid);
      const frontend = `/local/domain/${domid}/device/vbd/51712`;
      const backend = `/local/domain/0/backend/qdisk/${domid}/51712`;
      const errors: string[] = [];
      for (const [key, value] of all) {
        await guest.write(`${frontend}/state`, '1');
        await guest.write(`${frontend}/protocol`, 'x86_64-abi');
        await guest.write(`${frontend}/ring-ref`, '8');
        await guest.write(`${frontend}/event-channel`, '1');
        await guest.write(`${frontend}/${key}`, value);
        if (key !== 'state') await guest.write(`${frontend}/state`, '3');
        // The daemon is in this process: what it does about it is done after some turns.
        let error: string | undefined;
        for (let turn = 0; turn < 60 || (error === undefined && turn < 600); turn++) {
          await new Promise((resolve) => setImmediate(resolve));
          if (turn >= 59) error = await store.tryRead(`/local/domain/0/error/backend/qdisk/${domid}/51712/error`);
        }
        if (error !== undefined) errors.push(error);
        await guest.write(`${frontend}/state`, '6');
        for (let turn = 0; turn < 60; turn++) await new Promise((resolve) => setImmediate(resolve));
        await store.tryRead(`${backend}/state`);
      }
      return errors;
    },
    folder.image,
    attempts,
  );
}

const everyWay = KEYS.flatMap((key) => HOSTILE.map((value): [string, string] => [key, value]));

describe('a hostile guest', () => {
  it.each(['journal', 'text', 'json'])('writes no line of its own into a log in the form %s', async (format) => {
    const daemon = folder.run(['--log-format', format]);
    await daemon.ready();
    const errors = (await Promise.all(HOSTILE.map((value) => tries(daemon, [['protocol', value]])))).flat();
    errors.push(...(await tries(daemon, everyWay)));
    const lines = daemon.stderr.trimEnd().split('\n');
    expect(lines.join('')).toMatch(/forged/);
    const own = { journal: /^<[2-7]>(?!forged)/, text: /^(debug|info|warn|error|fatal) +(?!forged)/, json: /^\{.*\}$/ };
    for (const line of lines) {
      expect(line).toMatch(own[format as keyof typeof own]);
      expect(line).not.toMatch(CONTROL);
    }
    expect(errors.join('')).toMatch(/forged/);
    for (const error of errors) expect(error).not.toMatch(CONTROL);
  });

  it('that connects again and again with nonsense causes a bounded number of lines, and is told of', async () => {
    const daemon = folder.run();
    await daemon.ready();
    const attempts = Array.from({ length: 1000 }, (_, i): [string, string] => [
      KEYS[i % KEYS.length],
      `${HOSTILE[i % HOSTILE.length]} ${i}`,
    ]);
    await tries(daemon, attempts);
    expect(daemon.stderr.split('\n').length).toBeLessThan(40);
    expect(await folder.metric('log_lines_suppressed_total')).toBeGreaterThan(attempts.length / 10);
    // Whether reconnections are delayed is a matter of how fast the guest is here: guests/pace.test.ts of xenbus has that.
    expect(await folder.metric('error_nodes_delayed_total', { domid: 1 })).toBeGreaterThan(0);
    daemon.signal('SIGTERM');
    expect((await daemon.ended).code).toBe(0);
  });

  it('that flips its states as fast as it can keeps nobody from connecting, and is served in the end', async () => {
    const daemon = folder.run();
    await daemon.ready();
    const { hostile, slowestMs } = await daemon.inXen(
      async ({ host, guestStore, connect }, own, shared) => {
        const { domid: hostile } = await host.createDomain({ name: 'hostile' });
        await host.toolstack.attachDisk(hostile, { vdev: 'xvda', target: own, readOnly: true });
        const { domid: victim } = await host.createDomain({ name: 'victim' });
        const guest = await guestStore(hostile);
        const frontend = `/local/domain/${hostile}/device/vbd/51712`;
        await guest.write(`${frontend}/ring-ref`, 'nonsense');
        await guest.write(`${frontend}/event-channel`, '1');
        let flips = 0;
        let slowestMs = 0;
        const connecting = (async () => {
          // The first ones come while the hostile guest has what may be done at once.
          for (let i = 0; i < 5 || flips < 4000; i++) {
            const vdev = 'xvda';
            const began = performance.now();
            await host.toolstack.attachDisk(victim, { vdev, target: shared, readOnly: true });
            const disk = await connect(victim);
            slowestMs = Math.max(slowestMs, performance.now() - began);
            await disk.read(0, 512);
            await disk[Symbol.asyncDispose]();
            await host.toolstack.detachDisk(victim, vdev);
          }
          return true;
        })();
        let isOver = false;
        void connecting.finally(() => {
          isOver = true;
        });
        for (; !isOver; flips++) await guest.write(`${frontend}/state`, ['1', '3', '5', '6'][flips % 4]);
        await connecting;
        await guest.write(`${frontend}/state`, '6');
        const disk = await connect(hostile);
        await disk.read(0, 512);
        return { hostile, slowestMs };
      },
      folder.image,
      folder.image,
    );
    expect(slowestMs).toBeLessThan(1500);
    const counted = (name: string) => folder.metric(`${name}_total`, { domid: hostile });
    const events = await counted('watch_events');
    expect(events).toBeGreaterThan(1000);
    expect(await counted('watch_events_delayed')).toBeGreaterThan(events / 2);
    expect(await counted('reconnects')).toBeLessThan(100);
    expect(await counted('error_nodes')).toBeLessThan(40);
  });

  it('shows nothing but text on a terminal and in JSON, whatever an image is called', async () => {
    const daemon = folder.run();
    await daemon.ready();
    const name = folder.path('image\u001b[2J\u009b31m\n<3>forged\u202e');
    copyFileSync(folder.image, name);
    const device = `qdisk-${await daemon.attach(name)}-51712`;
    const looks = [['list'], ['list', '--json'], ['stats'], ['stats', '--json'], ['show', device], ['status']];
    for (const args of looks) {
      const { code, stdout } = await runBlockd(...args, '--socket', folder.control);
      expect(code).toBe(0);
      for (const line of stdout.trimEnd().split('\n')) expect(line).not.toMatch(CONTROL);
      if (args[1] === '--json') expect(JSON.parse(stdout)[0].image).toBe(name);
    }
  });
});

describe('an error in words', () => {
  it('is one line of text, whatever it names', async () => {
    const { code, stderr } = await runBlockd('list', '--socket', '/none\u001b[2J\n<3>forged\u009b');
    expect(code).toBe(1);
    expect(stderr.trimEnd()).not.toMatch(CONTROL);
  });
});
