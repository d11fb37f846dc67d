import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import type { Domid } from '@xenpv/xen-sys';
import type { ShutdownReason } from '../domain.js';
import { isToolstackErrorCode, ToolstackError } from '../errors.js';
import { onLines } from '../lines.js';
import { HostDirectory } from '../processes/directory.js';
import type { XlDisk } from '../toolstack/disk-config.js';
import type { AttachedDisk } from '../toolstack/toolstack.js';
import type { ControlAnswer, ControlCommand, ControlCommands, DomainSummary, RemoteDomainConfig } from './commands.js';

/** What every call takes last. */
export interface CallOptions {
  /** Aborting rejects the call with the signal's reason; the host may do what was asked all the same. */
  readonly signal?: AbortSignal | undefined;
}

interface Call {
  readonly resolve: (result: never) => void;
  readonly reject: (error: Error) => void;
}

/**
 * The host in a folder, from another process: makes and destroys domains, attaches and detaches disks. To act as one of
 * the domains is `joinHost`. Errors of all operations: ToolstackError, with ERR_HOST when the host is gone, and ERR_FAILED
 * for what another code of the host says.
 */
export class RemoteHost implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #calls = new Map<number, Call>();
  #next = 0;
  #lost = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    onLines(socket, (line) => this.#hear(JSON.parse(line) as ControlAnswer));
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#lost = true;
      for (const { reject } of this.#calls.values()) reject(hostGone());
      this.#calls.clear();
    });
  }

  /** Error: ERR_HOST no host answers there. */
  static async connect(directory: string, { signal }: CallOptions = {}): Promise<RemoteHost> {
    const path = new HostDirectory(directory).controlSocket;
    const socket = createConnection(path);
    try {
      await once(socket, 'connect', { signal });
    } catch (cause) {
      socket.destroy();
      signal?.throwIfAborted();
      const problem = 'start one there, or name the folder of one that runs';
      throw new ToolstackError('ERR_HOST', 'connect', `no emulated host answers in ${directory}; ${problem}`, {
        path,
        cause,
      });
    }
    return new RemoteHost(socket);
  }

  /** Resolves with the number of the new domain. Error: ERR_EXISTS the domid is in use. */
  createDomain(config: RemoteDomainConfig, options?: CallOptions): Promise<{ readonly domid: Domid }> {
    return this.#call(options, 'createDomain', config);
  }

  /** Harmless when repeated. */
  async destroyDomain(domid: Domid, options?: CallOptions): Promise<void> {
    await this.#call(options, 'destroyDomain', domid);
  }

  /** As `shutdown` of the domain. Errors: ERR_NO_DOMAIN, ERR_COMMAND. */
  async shutdown(domid: Domid, reason: ShutdownReason = 'poweroff', options?: CallOptions): Promise<void> {
    await this.#call(options, 'shutdown', domid, reason);
  }

  /** All domains, domain 0 first, and what they hold. */
  domains(options?: CallOptions): Promise<readonly DomainSummary[]> {
    return this.#call(options, 'domains');
  }

  /** As `attachDisk` of the host's toolstack, with its errors. */
  attachDisk(domid: Domid, disk: XlDisk, options?: CallOptions): Promise<AttachedDisk> {
    return this.#call(options, 'attachDisk', domid, disk);
  }

  /** As `detachDisk` of the host's toolstack, with its errors. */
  async detachDisk(
    domid: Domid,
    vdev: string,
    { signal, force }: CallOptions & { readonly force?: boolean | undefined } = {},
  ): Promise<void> {
    await this.#call({ signal }, 'detachDisk', domid, vdev, { force });
  }

  /** Its transient domains are destroyed. Harmless when repeated. */
  async close(): Promise<void> {
    if (this.#lost) return;
    const closed = once(this.#socket, 'close');
    this.#socket.destroy();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #call<C extends ControlCommand>(
    options: CallOptions | undefined,
    command: C,
    ...args: Parameters<ControlCommands[C]>
  ): Promise<ReturnType<ControlCommands[C]>> {
    if (this.#lost) return Promise.reject(hostGone());
    const id = this.#next++;
    const signal = options?.signal;
    if (signal?.aborted) return Promise.reject(signal.reason);
    // The answer may come all the same, and finds nobody then.
    const abort = () => {
      this.#calls.get(id)?.reject(signal?.reason);
      this.#calls.delete(id);
    };
    signal?.addEventListener('abort', abort, { once: true });
    const answer = new Promise<ReturnType<ControlCommands[C]>>((resolve, reject) => {
      this.#calls.set(id, { resolve: resolve as Call['resolve'], reject });
      this.#socket.write(`${JSON.stringify({ id, command, arguments: args })}\n`);
    });
    return answer.finally(() => signal?.removeEventListener('abort', abort));
  }

  #hear(answer: ControlAnswer): void {
    const call = this.#calls.get(answer.id);
    this.#calls.delete(answer.id);
    if ('error' in answer) {
      call?.reject(errorOf(answer.error));
    } else {
      call?.resolve(answer.result as never);
    }
  }
}

/** What a host said went wrong. Its other errors keep their code in the `cause`, and any version of a host may have more. */
function errorOf({ code, op, message }: { code: string; op: string; message: string }): ToolstackError {
  if (isToolstackErrorCode(code)) return new ToolstackError(code, op, message);
  return new ToolstackError('ERR_FAILED', op, message, { cause: Object.assign(new Error(message), { code }) });
}

function hostGone(): ToolstackError {
  return new ToolstackError('ERR_HOST', 'control', 'the emulated host is gone');
}
