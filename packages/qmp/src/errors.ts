/**
 * ERR_ENDED: the peer is gone. ERR_PROTOCOL: it does not speak QMP. ERR_TIMEOUT: it does not answer. ERR_COMMAND: it
 * refuses a command.
 */
export type QmpErrorCode = 'ERR_ENDED' | 'ERR_PROTOCOL' | 'ERR_TIMEOUT' | 'ERR_COMMAND';

/** The classes of refusals (QapiErrorClass of QEMU's qapi/error.json). Whoever reads them should expect others. */
export type QmpErrorClass =
  | 'GenericError'
  | 'CommandNotFound'
  | 'DeviceNotActive'
  | 'DeviceNotFound'
  | 'KVMMissingCap'
  | (string & {});

/** A conversation that cannot go on, or a command that is refused. */
export class QmpError extends Error {
  override readonly name = 'QmpError';
  readonly code: QmpErrorCode;
  /** Of a refused command. */
  readonly class: QmpErrorClass | undefined;

  constructor(
    code: QmpErrorCode,
    message: string,
    options: { readonly class?: QmpErrorClass | undefined; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.class = options.class;
  }

  /** What a server's command throws: the client gets the class and the words. */
  static refusal(message: string, errorClass: QmpErrorClass = 'GenericError'): QmpError {
    return new QmpError('ERR_COMMAND', message, { class: errorClass });
  }
}
