import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { setImmediate } from 'node:timers/promises';
import { printable } from '@xenpv/xenbus';
import { BlockdError } from '../../errors.js';
import { LISTEN_ADDRESS_FORM, parseListenAddress } from '../../listen-address.js';
import { listenOnUnixSocket, listenPrivately } from '../../unix-socket.js';

/** Connections at a time; what asks needs one or two. Others wait in the kernel's queue no longer than to be refused. */
const MAX_CONNECTIONS = 32;
/** The longest that all headers of a request may be, in bytes. */
const MAX_HEADER_BYTES = 8192;
/** Within this a request has arrived. */
const REQUEST_MS = 10_000;
/** A connection on which nothing moves for so long, in either direction, is ended: a client that does not read, too. */
const SILENT_MS = 15_000;

/** Answers a GET or HEAD request. What it rejects with becomes the answer 500. */
export type HttpAnswer = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

/** Where it listens. */
export interface HttpPlace {
  /** What errors call it: `metrics`. */
  readonly what: string;
  /** See parseListenAddress. */
  readonly address: string;
  /** Whether a Unix socket is for the process's user alone. */
  readonly onlyOwner?: boolean;
}

/**
 * An HTTP server that can only be read from: on a Unix socket or a TCP port, with bounds on connections, headers and time,
 * so that no client costs more than its answer.
 */
export class HttpListener implements AsyncDisposable {
  readonly #server: Server;

  private constructor(answer: HttpAnswer) {
    this.#server = createServer(
      {
        maxHeaderSize: MAX_HEADER_BYTES,
        headersTimeout: REQUEST_MS,
        requestTimeout: REQUEST_MS,
        connectionsCheckingInterval: REQUEST_MS / 2,
        keepAliveTimeout: SILENT_MS / 2,
      },
      (request, response) => {
        if (request.method !== 'GET' && request.method !== 'HEAD') {
          // What such a request brings is not read.
          response.writeHead(405, { allow: 'GET, HEAD', connection: 'close' }).end();
          return;
        }
        answer(request, response).catch((error) => {
          if (response.headersSent) response.destroy();
          else response.writeHead(500, { 'content-type': 'text/plain; charset=utf-8' }).end(printable(String(error)));
        });
      },
    );
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#server.setTimeout(SILENT_MS, (socket) => socket.destroy());
  }

  /** Error: ERR_SOCKET. */
  static async listen(place: HttpPlace, answer: HttpAnswer): Promise<HttpListener> {
    const listener = new HttpListener(answer);
    await listener.#listen(place);
    // What a listening server reports later concerns one connection.
    listener.#server.on('error', () => {});
    return listener;
  }

  async #listen({ what, address, onlyOwner }: HttpPlace): Promise<void> {
    const parsed = parseListenAddress(address);
    if (parsed === undefined) throw refused(what, address, `expected ${LISTEN_ADDRESS_FORM}`);
    if ('path' in parsed) return (onlyOwner ? listenPrivately : listenOnUnixSocket)(this.#server, parsed.path);
    try {
      this.#server.listen(parsed);
      await once(this.#server, 'listening');
    } catch (cause) {
      throw refused(what, address, `${(cause as Error).message}; choose another`, cause);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }
}

/**
 * Writes the pieces of a body in several turns of the event loop, since rings are served on it, and no faster than they
 * are taken. A client that has gone ends it.
 */
export async function sendPieces(response: ServerResponse, pieces: Iterable<string | Buffer>): Promise<void> {
  for (const piece of pieces) {
    if (response.destroyed) return;
    if (!response.write(piece)) await drained(response);
    await setImmediate();
  }
  response.end();
}

async function drained(response: ServerResponse): Promise<void> {
  if (response.destroyed) return;
  await new Promise<void>((resolve) => {
    const done = () => {
      response.off('drain', done).off('close', done);
      resolve();
    };
    response.on('drain', done).on('close', done);
  });
}

function refused(what: string, address: string, problem: string, cause?: unknown): BlockdError {
  return new BlockdError('ERR_SOCKET', 'listen', `${what} on ${address}: ${problem}`, { path: address, cause });
}
