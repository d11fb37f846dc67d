import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { setImmediate } from 'node:timers/promises';
import { printable } from '@xenpv/xenbus';
import { BlockdError } from '../../errors.js';
import { LISTEN_ADDRESS_FORM, parseListenAddress } from '../../listen-address.js';
import { listenOnUnixSocket } from '../../unix-socket.js';
import { type MetricsSource, scrape } from './scrape.js';

/** Connections at a time; a scraper needs one. */
const MAX_CONNECTIONS = 32;

/** Serves `GET /metrics` on a Unix socket or a TCP port, see {@link parseListenAddress}. */
export class MetricsServer implements AsyncDisposable {
  readonly #server: Server;

  private constructor(source: MetricsSource) {
    this.#server = createServer((request, response) => {
      if (request.url !== '/metrics') {
        response.writeHead(404).end();
        return;
      }
      answer(source, response).catch((error) => {
        if (response.headersSent) response.destroy();
        else response.writeHead(500).end(printable(String(error)));
      });
    });
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  /** Error: ERR_SOCKET. */
  static async listen(address: string, source: MetricsSource): Promise<MetricsServer> {
    const metrics = new MetricsServer(source);
    await metrics.#listen(address);
    // What a listening server reports later concerns one connection.
    metrics.#server.on('error', () => {});
    return metrics;
  }

  async #listen(address: string): Promise<void> {
    const parsed = parseListenAddress(address);
    if (parsed === undefined) throw refused(address, `expected ${LISTEN_ADDRESS_FORM}`);
    if ('path' in parsed) return listenOnUnixSocket(this.#server, parsed.path);
    try {
      this.#server.listen(parsed);
      await once(this.#server, 'listening');
    } catch (cause) {
      throw refused(address, `${(cause as Error).message}; choose another`, cause);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }
}

/** In several turns of the event loop, since rings are served on it. A client that has gone ends it. */
async function answer(source: MetricsSource, response: ServerResponse): Promise<void> {
  const text = await scrape(source);
  response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' });
  for (const piece of text.pieces()) {
    if (response.destroyed) return;
    response.write(piece);
    await setImmediate();
  }
  response.end();
}

function refused(address: string, problem: string, cause?: unknown): BlockdError {
  return new BlockdError('ERR_SOCKET', 'listen', `metrics on ${address}: ${problem}`, { path: address, cause });
}
