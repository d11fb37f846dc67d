import { type BlockImage, ImageWrapper, type RefreshOptions } from '@xenpv/blockdev';

/** Somebody who reads an image besides the disk that has it. */
export interface Borrower {
  /** Lets go of the image, and resolves when that is done; it never rejects. `closing`: the image closes then. */
  end(why: 'closing' | 'resized'): Promise<void>;
}

/**
 * An image that others may read besides its disk. They end before it closes, whatever closes it: so no image stays open for
 * them, and none of their requests comes after its end. They end too when it has another size, which they cannot be told.
 */
export class LentImage extends ImageWrapper {
  readonly #borrowers = new Set<Borrower>();
  #isClosing = false;

  /** False: the image is closed, and is not read any more. */
  lend(borrower: Borrower): boolean {
    if (this.#isClosing) return false;
    this.#borrowers.add(borrower);
    return true;
  }

  /** The borrower has let go of it. */
  takeBack(borrower: Borrower): void {
    this.#borrowers.delete(borrower);
  }

  override async refresh(options?: RefreshOptions): Promise<number> {
    const before = this.size;
    const found = await super.refresh(options);
    // Who looks at the size does not wait for clients to take their last answers.
    if (this.size !== before) void this.#end('resized');
    return found;
  }

  protected override async closeOnce(): Promise<void> {
    this.#isClosing = true;
    await this.#end('closing');
    await super.closeOnce();
  }

  async #end(why: 'closing' | 'resized'): Promise<void> {
    await Promise.all([...this.#borrowers].map((borrower) => borrower.end(why)));
  }
}

/** The part of a disk's image that can be lent, however it is wrapped. */
export function lentImageOf(image: BlockImage | undefined): LentImage | undefined {
  for (let inner = image; inner instanceof ImageWrapper; inner = inner.inner) {
    if (inner instanceof LentImage) return inner;
  }
  return undefined;
}
