/**
 * The names of a node's children, in the order in which they were made, as DIRECTORY lists them.
 *
 * Transactions borrow lists instead of copying them: whoever changes a borrowed list in the store copies it first, and
 * a transaction changes a fork, which holds only the differences. So neither costs anything on a directory of many
 * thousand children unless two really meet there.
 */
export class ChildList {
  /** How many transactions look at this list. */
  borrowers = 0;
  #names: Set<string> | undefined;
  readonly #base: ChildList | undefined;
  #removed: Set<string> | undefined;
  #byteLength = 0;
  #bytes: Buffer | undefined;

  private constructor(base?: ChildList) {
    this.#base = base;
    this.#byteLength = base?.byteLength ?? 0;
  }

  /** An empty list. */
  static empty(): ChildList {
    return new ChildList();
  }

  /** Bytes of the list on the wire: each name and its NUL. */
  get byteLength(): number {
    return this.#byteLength;
  }

  /** The list as on the wire. Must not be changed. */
  get bytes(): Buffer {
    this.#bytes ??= Buffer.from(this.#byteLength === 0 ? '' : `${[...this].join('\0')}\0`, 'latin1');
    return this.#bytes;
  }

  *[Symbol.iterator](): IterableIterator<string> {
    if (this.#base !== undefined) {
      for (const name of this.#base) if (this.#removed === undefined || !this.#removed.has(name)) yield name;
    }
    if (this.#names !== undefined) yield* this.#names;
  }

  has(name: string): boolean {
    if (this.#names?.has(name)) return true;
    return this.#base?.has(name) === true && !this.#removed?.has(name);
  }

  /** Appends a name that is not in the list. */
  add(name: string): void {
    this.#names ??= new Set();
    this.#names.add(name);
    this.#byteLength += name.length + 1;
    this.#bytes = undefined;
  }

  /** Removes a name that is in the list. */
  remove(name: string): void {
    if (this.#names?.delete(name) !== true) {
      this.#removed ??= new Set();
      this.#removed.add(name);
    }
    this.#byteLength -= name.length + 1;
    this.#bytes = undefined;
  }

  /** A list with this content to be changed on its own; this one must not change as long as the fork is used. */
  fork(): ChildList {
    return new ChildList(this);
  }

  /** This list, or a copy of it when a transaction looks at it: to be changed in the store. */
  writable(): ChildList {
    return this.borrowers === 0 ? this : this.#flatCopy();
  }

  /** What a committed transaction leaves in the store: the differences of a fork go into its base where possible. */
  settle(): ChildList {
    const base = this.#base;
    if (base === undefined) return this;
    if (base.borrowers > 1) return this.#flatCopy();
    for (const name of this.#removed ?? []) base.remove(name);
    for (const name of this.#names ?? []) base.add(name);
    return base;
  }

  #flatCopy(): ChildList {
    const copy = new ChildList();
    for (const name of this) copy.add(name);
    return copy;
  }
}
