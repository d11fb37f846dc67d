/**
 * Calls functions of native addons with what they do not expect. Plain JavaScript, for programs that the tests run in a
 * process of their own: a fault ends it.
 */
import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';

/** Numbers from a seed (mulberry32): the same every time. */
export class Random {
  #state;

  constructor(seed) {
    this.#state = seed >>> 0;
  }

  /** 0 to `bound` - 1. */
  below(bound) {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let word = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    word ^= word + Math.imul(word ^ (word >>> 7), word | 61);
    return ((word ^ (word >>> 14)) >>> 0) % bound;
  }

  /** One of a list. */
  of(list) {
    return list[this.below(list.length)];
  }
}

/** Wrong, or at the edge, wherever a number is expected. */
export const ODD_NUMBERS = [
  ...[Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0, 0.5, -0.5, 1e300, -1e300, 5e-324],
  ...[-1, -2, 1e6, 1e6 + 1, 2 ** 31 - 1, 2 ** 31, -(2 ** 31), 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 2 ** 40],
  ...[Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, 2 ** 53, 2 ** 63, -(2 ** 63), 2 ** 64],
];

/** Numbers that may be right somewhere. Not for descriptors: they are those of the process itself. */
export const SMALL_NUMBERS = [0, 1, 2, 3, 4, 7, 8, 16, 255, 511, 512, 4095, 4096, 4097, 65536];

/**
 * Has the array's memory taken away, as far as this Node can: of what an addon has made only later ones can.
 * @template {ArrayBufferView} T
 * @param {T} array
 * @returns {T}
 */
export function takeAway(array) {
  const { buffer } = array;
  if (buffer.transfer) buffer.transfer();
  else structuredClone(buffer, { transfer: [buffer] });
  return array;
}

const hostile = {
  valueOf() {
    throw new Error('valueOf was called');
  },
  toString() {
    throw new Error('toString was called');
  },
  get length() {
    throw new Error('length was read');
  },
};

/** Makers of what is no number: each call makes its own. */
export const ODD_OBJECTS = [
  () => undefined,
  () => null,
  () => true,
  () => false,
  () => '',
  () => '7',
  () => 'a\0b',
  () => 'x'.repeat(5000),
  () => '\ud800',
  () => 7n,
  () => Symbol('odd'),
  () => ({}),
  () => hostile,
  () => Object.create(null),
  () => [],
  () => [1, 2, 3],
  () => new Proxy(new Uint8Array(8), {}),
  () => new Proxy({}, {}),
  () => () => {},
  () => new Date(0),
  () => new Map(),
  () => new DataView(new ArrayBuffer(16)),
  () => new ArrayBuffer(0),
  () => new ArrayBuffer(4096),
  () => new SharedArrayBuffer(4096),
  () => new SharedArrayBuffer(4096, { maxByteLength: 8192 }),
  () => new ArrayBuffer(4096, { maxByteLength: 8192 }),
  () => new Uint8Array(0),
  () => new Uint8Array(1),
  () => new Uint8Array(new ArrayBuffer(64), 3, 7),
  () => new Uint8ClampedArray(9),
  () => new Int8Array(5),
  () => new Uint16Array(3),
  () => new Int32Array(0),
  () => new Int32Array(1),
  () => new Int32Array(64),
  () => new Int32Array(new SharedArrayBuffer(8)),
  () => new Uint32Array(64),
  () => new Float32Array(4),
  () => new Float64Array(0),
  () => new Float64Array(1),
  () => new Float64Array(64).fill(Number.NaN),
  () => new BigInt64Array(4),
  () => new BigUint64Array(4),
  () => takeAway(new Uint8Array(4096)),
  () => takeAway(new Int32Array(64)),
  () => takeAway(new Float64Array(64)),
  () => Buffer.alloc(10),
  () => Buffer.from('small'),
];

/**
 * One function to be called: how, and what makes arguments that it takes. `fds`: places of descriptors. `done` gets the
 * result of a call that did not throw, to give back what it has taken.
 * @typedef {{ call: (...args: any[]) => unknown, valid: () => unknown[], fds?: number[], done?: (result: any, args: any[]) => void }} Target
 */

/**
 * Every function with every odd value at every place, with too few arguments, and `rounds` times with values drawn by
 * chance. Whatever it throws is a TypeError or a RangeError. Resolves with the number of calls.
 * @param {Record<string, Target>} targets
 */
export async function callOddly(targets, { seed, rounds }) {
  const random = new Random(seed);
  let calls = 0;
  const attempt = async (name, args) => {
    calls++;
    try {
      call(name, targets[name], args);
    } catch (error) {
      throw new Error(`${name}(${args.map(describe).join(', ')}), seed ${seed}: ${error.stack}`);
    }
    // Work on other threads calls back.
    if (calls % 64 === 0) await nextTurn();
  };
  for (const name of Object.keys(targets)) {
    const { valid, fds = [] } = targets[name];
    const places = valid().length;
    for (let count = 0; count <= places; count++) await attempt(name, valid().slice(0, count));
    for (let place = 0; place < places; place++) {
      for (const value of oddValues(fds.includes(place))) {
        const args = valid();
        args[place] = value();
        await attempt(name, args);
      }
    }
  }
  const names = Object.keys(targets);
  for (let round = 0; round < rounds; round++) {
    const name = random.of(names);
    const { valid, fds = [] } = targets[name];
    const args = valid();
    for (let place = 0; place < args.length; place++) {
      if (random.below(2) === 0) args[place] = random.of(oddValues(fds.includes(place)))();
    }
    if (random.below(8) === 0) args.push(random.of(oddValues(false))());
    await attempt(name, args);
  }
  return calls;
}

function oddValues(isFd) {
  const numbers = isFd ? ODD_NUMBERS : [...ODD_NUMBERS, ...SMALL_NUMBERS];
  return [...numbers.map((number) => () => number), ...ODD_OBJECTS];
}

function call(name, { call: target, done }, args) {
  let result;
  try {
    result = target(...args);
  } catch (error) {
    assert.ok(error instanceof TypeError || error instanceof RangeError, `${name} throws ${error?.stack ?? error}`);
    return;
  }
  done?.(result, args);
}

function describe(value) {
  if (ArrayBuffer.isView(value)) return `${value.constructor.name} of ${value.byteLength} bytes`;
  if (typeof value === 'number' || value == null || typeof value === 'boolean') return String(value);
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 20));
  return typeof value;
}
