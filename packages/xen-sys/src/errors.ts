/** What went wrong below a provider: an errno name, or one of ours for what no errno says. */
export type XenSysErrorCode =
  | 'ERR_NO_LIBRARY'
  | 'ERR_NO_DEVICE'
  | 'ERR_NO_ADDON'
  | 'ERR_NO_XENSTORE'
  | 'ERR_CLOSED'
  | 'ERR_NOT_CONTIGUOUS'
  | (string & {});

/** An operation of a provider that failed. Hot-path operations return negative errno numbers instead. */
export class XenSysError extends Error {
  override readonly name = 'XenSysError';
  readonly code: XenSysErrorCode;
  /** The operation, spelled as in the interface: `evtchn.bindInterdomain`, `gnttab.map`. */
  readonly op: string;
  /** The errno, positive, where the kernel or the hypervisor gave one. */
  readonly errno: number | undefined;
  /** The device, socket or library it was done on. */
  readonly path: string | undefined;

  constructor(
    code: XenSysErrorCode,
    op: string,
    message: string,
    options: { errno?: number; path?: string; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.op = op;
    this.errno = options.errno;
    this.path = options.path;
  }
}
