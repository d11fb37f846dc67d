/** What went wrong in the daemon or its command line; {@link BlockdError.exitCode} is what the process ends with. */
export type BlockdErrorCode =
  | 'ERR_USAGE'
  | 'ERR_CONFIG'
  | 'ERR_SOCKET'
  /** No daemon answers, where that is told apart from all else. */
  | 'ERR_AWAY'
  | 'ERR_IMAGE'
  /** Another daemon serves this domain. */
  | 'ERR_RUNNING'
  | 'ERR_LOCK'
  | 'ERR_TOOL'
  | 'ERR_XEN'
  | 'ERR_GUEST'
  | 'ERR_TIMEOUT';

/**
 * Exit codes, those of two digits of sysexits. `unavailable`: Xen or xenstored is not there; systemd may try again. Of
 * `status`: the daemon is not there.
 * `running`: another daemon serves this domain.
 */
export const ExitCode = { ok: 0, failure: 1, usage: 2, unavailable: 69, running: 75, config: 78 } as const;

const EXIT_CODES: Partial<Record<BlockdErrorCode, number>> = {
  ERR_USAGE: ExitCode.usage,
  ERR_CONFIG: ExitCode.config,
  ERR_RUNNING: ExitCode.running,
  ERR_XEN: ExitCode.unavailable,
  ERR_AWAY: ExitCode.unavailable,
};

/** An error for a person to read: one line that says what, which, and what to do. */
export class BlockdError extends Error {
  override readonly name = 'BlockdError';
  readonly code: BlockdErrorCode;
  /** What was tried: `open image`, `listen`. */
  readonly op: string;
  /** The image, socket, file or program that it was tried on. */
  readonly path: string | undefined;

  constructor(
    code: BlockdErrorCode,
    op: string,
    message: string,
    options: { readonly path?: string | undefined; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.op = op;
    this.path = options.path;
  }

  get exitCode(): number {
    return EXIT_CODES[this.code] ?? ExitCode.failure;
  }
}

/** Xen or xenstored cannot be used: ERR_XEN, with the message of `cause`. */
export function xenUnavailable(op: string, cause: unknown): BlockdError {
  return new BlockdError('ERR_XEN', op, (cause as Error).message, { cause });
}

/** The `code` of a system error, if it is one. */
export function errorCode(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === 'string' ? code : undefined;
}
