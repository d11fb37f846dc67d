const HEAD = 2000;
const TAIL = 2000;

/** The beginning and the end of a text that may have no end: a program says first what is wrong, and last why it ends. */
export class BoundedText {
  #head = '';
  #tail = '';
  #cut = false;

  add(text: string): void {
    const room = HEAD - this.#head.length;
    this.#head += text.slice(0, room);
    const tail = this.#tail + text.slice(room);
    this.#cut ||= tail.length > TAIL;
    this.#tail = tail.slice(-TAIL);
  }

  get text(): string {
    return this.#cut ? `${this.#head}\n…\n${this.#tail}` : this.#head + this.#tail;
  }
}
