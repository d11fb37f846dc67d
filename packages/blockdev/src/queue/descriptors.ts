/** The open descriptors of an image that is a file or a block device. */
export interface FileDescriptors {
  readonly main: number;
  /** Without O_DIRECT: for what the page cache has of the image, never for its data. Often the same as `main`. */
  readonly buffered: number;
}
