/** Who uses an image. */
export interface ImageUser {
  /**
   * What counts as one user: users of this process with the same owner may share an image that is written. For a disk,
   * its virtual machine, which has two domains while it migrates.
   */
  readonly owner: string;
  /** For messages to whoever wants the image too: `xvda of domain 5 (/local/domain/0/backend/qdisk/5/51712)`. */
  readonly name: string;
}
