import { execFile } from 'node:child_process';
import { needs } from '@xenpv/test-support';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { XenstoreClient } from '../client/client.js';
import { GenuineServer } from '../testing/genuine-server/genuine-server.js';
import { runCommandLine } from './command-line.js';
import { parseValue, showValue } from './value-text.js';

interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly error: string;
}

const DIGITS = '0123456789'.repeat(20);

/** `begun` is called when the first output is there. */
async function ours(argv: string[], begun = () => {}, signal = new AbortController().signal): Promise<Outcome> {
  let out = '';
  let error = '';
  const code = await runCommandLine({
    argv,
    out: (bytes) => {
      out += Buffer.from(bytes).toString('latin1');
      begun();
    },
    error: (text) => {
      error += text;
    },
    columns: undefined,
    signal,
  });
  return { code, out, error: error.replace(/^xenstore: /, '') };
}

function stock([mode, ...args]: string[], begun = () => {}): Promise<Outcome> {
  return new Promise((resolve) => {
    const tool = execFile(`xenstore-${mode}`, args, { encoding: 'latin1' }, (_, out, error) => {
      resolve({ code: tool.exitCode!, out, error: error.replace(/^xenstore-[a-z]+: /, '') });
    });
    tool.stdout?.once('data', begun);
  });
}

needs('xenstored', 'xenctrl.h', 'cc', 'xenstore-ls').describe('equal to the stock tools', () => {
  let server: GenuineServer;
  let store: XenstoreClient;

  beforeAll(async () => {
    server = await GenuineServer.start('xenstored');
    process.env.XENSTORED_PATH = server.socketPath;
    store = await XenstoreClient.connect();
  });
  afterAll(async () => {
    await store.close();
    delete process.env.XENSTORED_PATH;
    await server[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    await store.remove('/t');
    await store.write('/t/a', 'one');
    await store.write('/t/a/b', Uint8Array.of(1, 7, 8, 9, 10, 13, 27, 34, 39, 92, 127, 128, 255, 0));
    await store.write('/t/a/b/c', '');
    await store.write('/t/long', DIGITS);
    await store.write('/t/k70', DIGITS.slice(0, 70));
    await store.write('/t/k75', DIGITS.slice(0, 75));
    await store.write(`/t/${'n'.repeat(90)}`, 'v');
    await store.write(`/t/${'m'.repeat(60)}`, 'v');
    await store.write('/t/deep/deeper/deepest', DIGITS.slice(0, 62));
    await store.setPermissions('/t/a', [
      { domid: 0, access: 'r' },
      { domid: 0, access: 'b' },
    ]);
  });

  it.each([
    ['ls', '/t'],
    ['ls', '-f', '/t'],
    ['ls', '-p', '/t'],
    ['ls', '-fp', '/t'],
    ['ls'],
    ['ls', '/t/a/b/c'],
    ['ls', '/no'],
    ['ls', '/t//a'],
    ['ls', '-s', '/t/a'],
    ['list', '/t'],
    ['list', '-p', '/t', '/t/a'],
    ['list', '/t/a', '/no', '/t'],
    ['read', '/t/a', '/t/a/b'],
    ['read', '-p', '/t/a', '/t/a/b'],
    ['read', '-R', '/t/a/b', '/t/a'],
    ['read', '-p', '-R', '/t/a'],
    ['read', '/t/a', '/no', '/t/a'],
    ['exists', '/t/a', '/t'],
    ['exists', '/t/a', '/no'],
    ['exists', '-s', '/no'],
    ['watch', '-n', '2', '/t', '/no'],
    ['watch', '-n', '0', '/t'],
  ])('xenstore-%s %s %s %s %s', async (...argv) => {
    const args = argv.filter((arg) => arg !== undefined);
    expect(await ours(args)).toEqual(await stock(args));
  });

  it.each([
    ['write', '/t/x', 'new', '/t/a', 'a\\tb\\x41\\101\\\\'],
    ['write', '-R', '/t/x', 'a\\tb'],
    ['write', '/t/x', '', '/t/y/z', '1'],
    ['write', '/t/x', '1', '/t//y', '1'],
    ['rm', '/t/a'],
    ['rm', '/t/no'],
    ['rm', '/t/no/no', '/t/a'],
    ['rm', '/t/a', '/t/no/no'],
    ['rm', '-t', '/t/deep/deeper/deepest'],
    ['rm', '-t', '/t/a/b/c'],
    ['chmod', '/t/a', 'n0', 'b0'],
    ['chmod', '-r', '/t/a', 'w0'],
    ['chmod', '-u', '/t/a/b/c', 'w0', 'r0'],
    ['chmod', '-r', '-u', '/t/a', 'b0'],
    ['chmod', '/t/no', 'r0'],
    ['chmod', '/t/a', 'r777'],
  ])('xenstore-%s %s %s %s %s changes the same', async (...argv) => {
    const args = argv.filter((arg) => arg !== undefined);
    const before = await ours(['ls', '-fp', '/t']);
    const stockOutcome = await stock(args);
    const stockTree = await ours(['ls', '-fp', '/']);
    await store.remove('/t');
    await restore(store, before.out);
    expect((await ours(['ls', '-fp', '/t'])).out).toBe(before.out);
    expect(await ours(args)).toEqual(stockOutcome);
    expect((await ours(['ls', '-fp', '/'])).out).toBe(stockTree.out);
  });

  // Those of later releases have fewer.
  needs('Xen 4.17').it.each(['ls', 'list', 'read', 'write', 'rm', 'watch', 'chmod', 'exists'])(
    'xenstore-%s takes the same options',
    async (mode) => {
      const [, usage] = (await stock([mode, '-h'])).error.split(`xenstore-${mode} `);
      const help = (await ours([mode, '-h'])).out.split(`xenstore ${mode} `)[1].replace('[--json] ', '');
      const told = usage.trim().replace(/\[-p\] (?=\[-s\] key \[\.\.\.\]$)/, mode === 'exists' ? '' : '$&');
      expect(help.trim()).toBe(mode === 'watch' ? `${told} [...]` : told);
    },
  );

  it('watch sees each change, until there were enough', async () => {
    const argv = ['watch', '-n', '4', '/t'];
    const outcomes: Promise<Outcome>[] = [];
    await new Promise<void>((begun) => outcomes.push(ours(argv, begun)));
    await new Promise<void>((begun) => outcomes.push(stock(argv, begun)));
    for (let i = 0; i < 3; i++) await store.write('/t/a', i);
    const [one, two] = await Promise.all(outcomes);
    expect(one).toEqual(two);
    expect(one.out).toBe('/t\n/t/a\n/t/a\n/t/a\n');
  });

  it('watch ends with its signal', async () => {
    const abort = new AbortController();
    const watching = ours(['watch', '/t'], () => abort.abort(), abort.signal);
    expect(await watching).toEqual({ code: 0, out: '/t\n', error: '' });
  });

  it.each([
    [['read', '--json', '/t/a', '/t/a/b/c'], { '/t/a': 'one', '/t/a/b/c': '' }],
    [['exists', '--json', '/t/a', '/no'], { '/t/a': true, '/no': false }],
    [['list', '--json', '/t/a'], { '/t/a': ['b'] }],
    [['watch', '--json', '-n', '1', '/t'], { path: '/t' }],
    [
      ['ls', '--json', '-p', '/t/a'],
      [
        { path: '/t/a/b', value: { base64: 'AQcICQoNGyInXH+A/wA=' }, permissions: ['n0'] },
        { path: '/t/a/b/c', value: '', permissions: ['n0'] },
      ],
    ],
  ])('%j', async (argv, json) => {
    const { out } = await ours(argv);
    expect(JSON.parse(out)).toEqual(json);
  });
});

/** Writes what `ls -fp` printed. */
async function restore(store: XenstoreClient, listing: string): Promise<void> {
  for (const line of listing.trimEnd().split('\n')) {
    const [, path, value, permissions] = /^(\S+) = "(.*)" {3}\((.*)\)$/.exec(line)!;
    await store.write(path, parseValue(value));
    await ours(['chmod', path, ...permissions.split(',')]);
  }
}

// The stock tool does not look for the socket where XENSTORED_PATH says.
needs('xenstored', 'xenctrl.h', 'cc').it('control prints what the daemon answers, or refuses', async () => {
  await using server = await GenuineServer.start('xenstored');
  process.env.XENSTORED_PATH = server.socketPath;
  const outcomes = [];
  for (const args of [['check'], ['help'], ['--json', 'check'], ['nonsense', 'argument']]) {
    outcomes.push(await ours(['control', ...args]));
  }
  const enough = new Error('enough');
  await expect(ours(['control', 'check'], undefined, AbortSignal.abort(enough))).rejects.toBe(enough);
  delete process.env.XENSTORED_PATH;
  expect(outcomes).toEqual([
    { code: 0, out: 'OK\n', error: '' },
    { code: 0, out: expect.stringMatching(/check.*\n$/s), error: '' },
    { code: 0, out: '"OK"\n', error: '' },
    { code: 1, out: '', error: expect.stringMatching(/^nonsense: .*\n$/) },
  ]);
});

describe('command lines that are wrong', () => {
  it.each([
    [[], 1, 'Usage: xenstore <mode>'],
    [['foo'], 1, 'unknown mode foo'],
    [['constructor'], 1, 'unknown mode constructor'],
    [['read'], 1, 'Usage: xenstore read'],
    [['read', '-q', '/a'], 1, "Unknown option '-q'"],
    [['write', '/a'], 1, 'Usage: xenstore write'],
    [['write', '/a', '1', '/b'], 1, 'Usage: xenstore write'],
    [['chmod', '/a'], 1, 'Usage: xenstore chmod'],
    [['watch'], 1, 'Usage: xenstore watch'],
    [['control'], 1, 'Usage: xenstore control'],
  ])('%j', async (argv, code, error) => {
    const outcome = await ours(argv);
    expect([outcome.code, outcome.out]).toEqual([code, '']);
    expect(outcome.error).toContain(error);
  });

  it('without a xenstored', async () => {
    process.env.XENSTORED_PATH = '/no/socket';
    const outcome = await ours(['ls']);
    delete process.env.XENSTORED_PATH;
    expect(outcome).toEqual({ code: 1, out: '', error: expect.stringContaining('ERR_NO_XENSTORED') });
  });
});

it('shown values are read back', () => {
  const all = Uint8Array.from({ length: 256 }, (_, byte) => byte);
  expect(Uint8Array.from(parseValue(showValue(all)))).toEqual(all);
});
