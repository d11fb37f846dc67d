/**
 * ERR_ENDED: the peer is gone. ERR_PROTOCOL: it does not speak QMP. ERR_TIMEOUT: it does not answer. ERR_COMMAND: it
 * refuses a command.
 */
export type QmpErrorCode = 'ERR_ENDED' | 'ERR_PROTOCOL' | 'ERR_TIMEOUT' | 'ERR_COMMAND';

/** What was tried: to reach the server, to read what it says, or a command that it refuses. */
export type QmpErrorOp = 'connect' | 'receive' | 'execute';

/** The classes of refusals (QapiErrorClass of QEMU's qapi/error.json). Whoever reads them should expect others. */
export type QmpErrorClass =
  | 'GenericError'
  | 'CommandNotFound'
  | 'DeviceNotActive'
  | 'DeviceNotFound'
  | 'KVMMissingCap'
  | (string & {});

/** On every QmpError, whichever copy of this package it comes from: ES modules, CommonJS, another version. */
const BRAND = Symbol.for('@xenpv/qmp.QmpError');

/** A conversation that cannot go on, or a command that is refused. */
export class QmpError extends Error {
  /** The same for all; `instanceof` also knows the errors of another copy of this package. */
  override readonly name = 'QmpError';
  /** `ERR_COMMAND` is of one command, or of a client that is turned away; after the others the conversation is over. */
  readonly code: QmpErrorCode;
  /** `execute` for a refusal, `connect` for a wrong greeting, `receive` for all else. */
  readonly op: QmpErrorOp;
  /** The socket, where it is known. */
  readonly path: string | undefined;
  /** Of a refusal, as it is on the wire; undefined where nothing was refused. */
  readonly class: QmpErrorClass | undefined;

  constructor(
    code: QmpErrorCode,
    op: QmpErrorOp,
    message: string,
    options: {
      readonly class?: QmpErrorClass | undefined;
      readonly path?: string | undefined;
      readonly cause?: unknown;
    } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.op = op;
    this.path = options.path;
    this.class = options.class;
  }

  /** What a server's command throws: the client gets the class and the words. */
  static refusal(message: string, errorClass: QmpErrorClass = 'GenericError'): QmpError {
    return new QmpError('ERR_COMMAND', 'execute', message, { class: errorClass });
  }

  static {
    Object.defineProperty(QmpError.prototype, BRAND, { value: true });
  }

  /** Holds for the errors of every copy of this package; for a class derived from this one, as usual. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: derived classes inherit this method.
    if (this !== QmpError) return Function.prototype[Symbol.hasInstance].call(this, value);
    return value instanceof Error && BRAND in value;
  }
}
