/** The open descriptors of an image that is a file or a block device. */
export interface FileDescriptors {
  readonly main: number;
  /** Without O_DIRECT, for memory or a file's tail that is not aligned. Often the same as `main`. */
  readonly buffered: number;
}
