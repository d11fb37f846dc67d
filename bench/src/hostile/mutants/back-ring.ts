import { BackRing } from '@xenpv/ring';
import type { Planted } from './planted.js';

type Method = 'takeRequest' | 'putResponse' | 'pushResponses' | 'harvest' | 'finalCheck';

/** Puts another method in the place of one of all rings' backends, until it is disposed of. `original` is bound to a ring. */
export function inBackRing<M extends Method>(
  method: M,
  make: (original: BackRing[M]) => (ring: BackRing, ...args: Parameters<BackRing[M]>) => ReturnType<BackRing[M]>,
): Planted {
  const { prototype } = BackRing;
  const original = prototype[method] as BackRing[M];
  let current: BackRing;
  const bound = ((...args: unknown[]) =>
    (original as (...all: unknown[]) => unknown).apply(current, args)) as BackRing[M];
  const other = make(bound);
  prototype[method] = function (this: BackRing, ...args: unknown[]) {
    current = this;
    return (other as (ring: BackRing, ...all: unknown[]) => unknown)(this, ...args);
  } as never;
  return {
    [Symbol.dispose]: () => {
      prototype[method] = original as never;
    },
  };
}

/** Changes each request after it was taken; `n` counts them. `sectorWord` follows from the layout. */
export function requestsChanged(change: (words: Int32Array, layout: Layout, n: number) => void): Planted {
  let n = 0;
  return inBackRing('takeRequest', (take) => (ring, target, at) => {
    const index = take(target, at);
    change(target.subarray(at, at + ring.slotWords), ring.slotWords === 27 ? X86_32 : ALIGNED, ++n);
    return index;
  });
}

/** Changes each response before it is put. */
export function responsesChanged(change: (words: Int32Array, n: number) => void): Planted {
  let n = 0;
  return inBackRing('putResponse', (put) => (_ring, source, at, words) => {
    const response = source.slice(at, at + words);
    change(response, ++n);
    put(response, 0, words);
  });
}

/** With the last answer once more, where another one is due. */
export function answeredTwice(): Planted {
  let again: () => void = () => {};
  let n = 0;
  const remembered = inBackRing('putResponse', (put) => (_ring, ...args) => {
    again = () => put(...args);
    put(...args);
  });
  const pushed = inBackRing('pushResponses', (push) => (ring) => {
    if (ring.inFlight > 0 && ++n === 10) again();
    return push();
  });
  return {
    [Symbol.dispose]: () => {
      remembered[Symbol.dispose]();
      pushed[Symbol.dispose]();
    },
  };
}

interface Layout {
  readonly sector: number;
  readonly segments: number;
}
const X86_32: Layout = { sector: 3, segments: 5 };
const ALIGNED: Layout = { sector: 4, segments: 6 };
