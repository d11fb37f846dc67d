/**
 * Every store that another process can see, as an instant at which this one may die. While a model is in `run`, the
 * global `Int32Array` and `Atomics` are replaced: views of shared memory count their stores, and throw `Killed` in place
 * of the one that was chosen.
 */

/** The process has died; nothing of it runs any more. */
export class Killed extends Error {}

const TrueInt32Array = Int32Array;
const TrueAtomics = Atomics;

export class StorePoints {
  /** Stores so far. */
  count = 0;
  #left = Number.POSITIVE_INFINITY;
  readonly #targets = new WeakMap<object, Int32Array<SharedArrayBuffer>>();

  /** The store before which the process dies, counted from 1; undefined: it lives on. */
  killAt(store: number | undefined): void {
    this.#left = store ?? Number.POSITIVE_INFINITY;
  }

  /** Runs `life` with its stores counted. */
  run<T>(life: () => T): T {
    Object.assign(globalThis, { Int32Array: this.#watchedConstructor(), Atomics: this.#atomics() });
    try {
      return life();
    } finally {
      Object.assign(globalThis, { Int32Array: TrueInt32Array, Atomics: TrueAtomics });
    }
  }

  #point(): void {
    this.count++;
    if (--this.#left === 0) throw new Killed();
  }

  #watchedConstructor() {
    return new Proxy(TrueInt32Array, {
      construct: (target, args, newTarget) => {
        const view = Reflect.construct(target, args, newTarget === target ? target : TrueInt32Array);
        return view.buffer instanceof SharedArrayBuffer ? this.#watched(view) : view;
      },
    });
  }

  #watched(target: Int32Array<SharedArrayBuffer>): Int32Array {
    const methods = {
      fill: (value: number) => {
        for (let i = 0; i < target.length; i++) this.#store(target, i, value);
      },
      set: (values: ArrayLike<number>, at = 0) => {
        for (let i = 0; i < values.length; i++) this.#store(target, at + i, values[i]);
      },
    };
    const proxy = new Proxy(target, {
      get: (_, key) => {
        if (Object.hasOwn(methods, key)) return methods[key as keyof typeof methods];
        const value = Reflect.get(target, key, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
      set: (_, key, value) => {
        this.#store(target, Number(key), value);
        return true;
      },
    });
    this.#targets.set(proxy, target);
    return proxy;
  }

  #store(target: Int32Array, i: number, value: number): void {
    this.#point();
    target[i] = value;
  }

  /** Those of Atomics that rings and journals use; any other one is missing, so that none goes uncounted. */
  #atomics() {
    const target = (view: Int32Array<SharedArrayBuffer>) => this.#targets.get(view) ?? view;
    return {
      load: (view: Int32Array<SharedArrayBuffer>, i: number) => TrueAtomics.load(target(view), i),
      store: (view: Int32Array<SharedArrayBuffer>, i: number, value: number) => {
        this.#point();
        return TrueAtomics.store(target(view), i, value);
      },
    };
  }
}
