/** The other files that an image's header names. */
export interface References {
  readonly backing?: BackingReference | undefined;
  /** The file with a qcow2 image's data. */
  readonly dataFile?: string | undefined;
  /** Why the image is not served, whatever it names. */
  readonly refused?: string | undefined;
}

export interface BackingReference {
  readonly name: string;
  /** As QEMU calls it: `raw`, `qcow2`; undefined if the header does not tell. */
  readonly driver?: string | undefined;
  /** The header has no place for the format, so that it is the image's own, or raw. */
  readonly isOwnFormat?: boolean | undefined;
}
