// What addon.test.ts runs, each in a process of its own: node addon-stress.mjs NAME [SEED [ROUNDS]].
import assert from 'node:assert/strict';
import { constants, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { callOddly, takeAway } from '@xenpv/test-support/odd-arguments';
import nodeGypBuild from 'node-gyp-build';

const addon = nodeGypBuild(fileURLToPath(new URL('..', import.meta.url)));
const { Descriptor, ForeignMemory } = addon;
const [, , scenario, seed = '1', rounds = '2000'] = process.argv;

const PAGE = 4096;
const { O_RDWR, O_RDONLY, O_NONBLOCK } = constants;
const [EBADF, EFAULT, EINVAL] = [-9, -14, -22];
/** Takes nothing on the devices that are used here. */
const REQUEST = (16 << 16) | ('?'.charCodeAt(0) << 8) | 1;
const WORD_REQUEST = (4 << 16) | ('?'.charCodeAt(0) << 8) | 1;

const folder = mkdtempSync(join(tmpdir(), 'addon-stress-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
process.chdir(folder);
const path = join(folder, 'file');
writeFileSync(path, Buffer.alloc(4 * PAGE, 7));

const getter = (from, name) => Object.getOwnPropertyDescriptor(from.prototype, name).get;

/** A pipe: one end is enough, since it is open for both. */
let pipes = 0;
function openPipe() {
  const name = join(folder, `pipe-${pipes++}`);
  assert.equal(addon.makeFifo(name), 0);
  return new Descriptor(name, O_RDWR | O_NONBLOCK);
}

const scenarios = {
  async 'odd arguments'() {
    const noop = () => {};
    // Only what can be called with anything: no device, no terminal, no file that could grow.
    const idle = new Descriptor('/dev/null', O_RDWR | O_NONBLOCK);
    const file = new Descriptor(path, O_RDONLY);
    const pipe = openPipe();
    const foreign = new ForeignMemory('no such library');
    const words = new Int32Array(16).fill(0x5eed);
    const bound = () => [new Int32Array([0, 0, 0, 1]), new Uint8Array(8), new Uint8Array(8), new Int32Array(2)];
    const run = (call) => typeof call === 'function' && call();
    const targets = {
      addressOf: { call: addon.addressOf, valid: () => [new Uint8Array(8)] },
      futexWait: {
        // Of a word that has the expected value it would wait.
        call: (list, at, value, time) =>
          addon.futexWait(list, at, value, typeof at === 'number' && list?.[at] === value ? 0 : time),
        valid: () => [words, 3, 0, 1],
      },
      forbidCoreDumps: { call: addon.forbidCoreDumps, valid: () => [] },
      futexWake: { call: addon.futexWake, valid: () => [words, 3, 1] },
      // Elsewhere than where Descriptor looks, who would wait for the other end.
      makeFifo: {
        call: (name) => addon.makeFifo(typeof name === 'string' ? `${folder}/fifo-${name}` : name),
        valid: () => ['made'],
      },
      sendDatagram: { call: addon.sendDatagram, valid: () => [Buffer.from('\0nobody'), Buffer.from('hello'), false] },
      Descriptor: {
        call: (...args) => new Descriptor(...args),
        valid: () => [path, O_RDONLY],
        done: (made) => made.close(),
      },
      'Descriptor without new': { call: Descriptor, valid: () => [path, O_RDONLY] },
      ForeignMemory: { call: (...args) => new ForeignMemory(...args), valid: () => ['no such library'] },
      read: { call: (...args) => file.read(...args), valid: () => [new Uint8Array(8)] },
      write: { call: (...args) => idle.write(...args), valid: () => [new Uint8Array(8), 8] },
      ioctl: { call: (...args) => idle.ioctl(...args), valid: () => [REQUEST, new Uint8Array(16)] },
      ioctlWord: { call: (...args) => idle.ioctlWord(...args), valid: () => [WORD_REQUEST, 5] },
      bindIoctl: { call: (...args) => idle.bindIoctl(...args), valid: () => [REQUEST, new Uint8Array(16)], done: run },
      // With a time limit of its own: what is bound with another one is not called.
      bindSleep: { call: (...args) => void pipe.bindSleep(...args), valid: bound },
      lock: { call: (...args) => file.lock(...args), valid: () => [] },
      reserve: { call: (...args) => idle.reserve(...args), valid: () => [PAGE] },
      map: {
        call: (...args) => file.map(...args),
        valid: () => [PAGE, false, 0],
        done: (buffer) => typeof buffer === 'object' && file.unmap(buffer),
      },
      unmap: { call: (...args) => file.unmap(...args), valid: () => [new ArrayBuffer(8)] },
      listen: { call: (...args) => pipe.listen(...args), valid: () => [new Uint8Array(8), noop] },
      keepAlive: { call: (...args) => pipe.keepAlive(...args), valid: () => [true] },
      'foreign map': {
        call: (...args) => foreign.map(...args),
        valid: () => [1, true, new Float64Array(2), new Int32Array(2)],
      },
      'foreign unmap': { call: (...args) => foreign.unmap(...args), valid: () => [new ArrayBuffer(8)] },
    };
    for (const name of Object.getOwnPropertyNames(Descriptor.prototype)) {
      const { value, get } = Object.getOwnPropertyDescriptor(Descriptor.prototype, name);
      targets[`${name} of another object`] = {
        call: (self) => Reflect.apply(value ?? get, self, []),
        valid: () => [{}],
      };
    }
    for (const name of ['error', 'errno', 'map', 'unmap', 'close']) {
      const { value, get } = Object.getOwnPropertyDescriptor(ForeignMemory.prototype, name);
      targets[`foreign ${name} of another object`] = {
        call: (self) => Reflect.apply(value ?? get, self, []),
        valid: () => [{}],
      };
    }
    const calls = await callOddly(targets, { seed: Number(seed), rounds: Number(rounds) });
    for (const made of [idle, file, pipe, foreign]) made.close();
    console.log(`${calls} calls`);
  },

  async 'one class for another'() {
    const file = new Descriptor(path, O_RDONLY);
    const foreign = new ForeignMemory('no such library');
    assert.throws(() => getter(Descriptor, 'fd').call(foreign), TypeError);
    assert.throws(() => getter(ForeignMemory, 'error').call(file), TypeError);
    assert.throws(() => getter(ForeignMemory, 'errno').call(file), TypeError);
    assert.throws(() => Descriptor.prototype.close.call(foreign), TypeError);
    assert.throws(() => ForeignMemory.prototype.close.call(file), TypeError);
    assert.throws(() => Descriptor.prototype.close.call(Object.create(file)), TypeError);
    class More extends Descriptor {}
    assert.ok(new More(path, O_RDONLY).fd >= 0);
    file.close();
  },

  async 'closed and closed again'() {
    const file = new Descriptor(path, O_RDWR);
    const kept = file.map(PAGE, true, 0);
    const call = file.bindIoctl(REQUEST, new Uint8Array(16));
    const sleep = file.bindSleep(new Int32Array(4), new Uint8Array(4), new Uint8Array(4), new Int32Array(1));
    const pipe = openPipe();
    pipe.listen(new Uint8Array(8), () => {});
    pipe.listen(new Uint8Array(8), () => {});
    for (let i = 0; i < 3; i++) assert.equal(file.close(), 0);
    assert.equal(file.fd, EBADF);
    const late = [
      ...[file.read(new Uint8Array(4)), file.write(new Uint8Array(4), 4), file.ioctl(REQUEST, new Uint8Array(16))],
      ...[file.ioctlWord(WORD_REQUEST, 1), file.lock(), file.reserve(PAGE), file.map(PAGE, false, 0), call(), sleep()],
      file.listen(new Uint8Array(4), () => {}),
    ];
    assert.deepEqual(
      late,
      late.map(() => EBADF),
    );
    // What is mapped stays until it is unmapped, once.
    assert.equal(new Uint8Array(kept)[0], 7);
    assert.equal(file.unmap(kept), 0);
    assert.equal(file.unmap(kept), EINVAL);
    assert.equal(file.unmap(new ArrayBuffer(8)), EINVAL);
    for (let i = 0; i < 3; i++) assert.equal(pipe.close(), 0);
    pipe.listen();
    const foreign = new ForeignMemory('no such library');
    for (let i = 0; i < 3; i++) assert.equal(foreign.close(), 0);
    assert.equal(foreign.map(1, true, new Float64Array(1), new Int32Array(1)), EBADF);
  },

  async 'buffers taken away'() {
    const file = openPipe();
    const into = new Uint8Array(64);
    const results = [];
    const ended = new Promise((resolve) => {
      file.listen(into, (result) => {
        results.push(result);
        file.listen();
        resolve();
      });
    });
    takeAway(into);
    globalThis.gc();
    file.write(new Uint8Array(8), 8);
    await ended;
    assert.deepEqual(results, [EFAULT]);

    const argument = new Uint8Array(64);
    const call = file.bindIoctl(REQUEST, argument);
    assert.notEqual(call(), EFAULT);
    takeAway(argument);
    globalThis.gc();
    assert.equal(call(), EFAULT);

    for (let gone = 0; gone < 4; gone++) {
      const arrays = [new Int32Array([0, 0, 0, 1]), new Uint8Array(64), new Uint8Array(64), new Int32Array(1)];
      const sleep = file.bindSleep(...arrays);
      takeAway(arrays[gone]);
      globalThis.gc();
      assert.equal(sleep(), EFAULT);
    }
    // A mapping that another owner has now is no longer this one's to unmap, and goes with that owner.
    const mapped = new Descriptor(path, O_RDONLY);
    const buffer = mapped.map(PAGE, false, 0);
    takeAway(new Uint8Array(buffer));
    assert.equal(mapped.unmap(buffer), buffer.detached ? EINVAL : 0);
    file.close();
    mapped.close();
  },

  async 'short arguments of requests'() {
    const file = new Descriptor('/dev/null', O_RDWR);
    for (const bytes of [0, 1, 15]) assert.throws(() => file.ioctl(REQUEST, new Uint8Array(bytes)), RangeError);
    assert.throws(() => file.bindIoctl(REQUEST, new Uint8Array(15)), RangeError);
    // The kernel would write as much as it likes.
    assert.throws(() => file.ioctl(0x541b, new Uint8Array(64)), RangeError);
    assert.throws(() => file.ioctlWord(REQUEST, 1), RangeError);
    assert.throws(() => file.bindSleep(new Int32Array(3), into(), into(), new Int32Array(1)), RangeError);
    file.close();
  },

  async 'nothing is left'() {
    const files = () => readdirSync('/proc/self/fd').length;
    const before = files();
    const use = (count) => {
      for (let i = 0; i < count; i++) {
        const file = new Descriptor(path, O_RDONLY);
        if (i % 2 === 0) file.close();
        file.map(PAGE, false, 0);
      }
    };
    use(2000);
    for (let i = 0; i < 20 && files() > before; i++) {
      globalThis.gc();
      await nextTurn();
    }
    assert.equal(files(), before);
  },
};

const into = () => new Uint8Array(8);

await scenarios[scenario]();
