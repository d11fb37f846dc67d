import { HttpListener, sendPieces } from '../http/http-listener.js';
import { type MetricsSource, scrape } from './scrape.js';

/** Serves `GET /metrics` on a Unix socket or a TCP port, see parseListenAddress. Error: ERR_SOCKET. */
export function listenForMetrics(address: string, source: MetricsSource): Promise<AsyncDisposable> {
  return HttpListener.listen({ what: 'metrics', address }, async ({ url }, response) => {
    if (url !== '/metrics') {
      response.writeHead(404).end();
      return;
    }
    const text = await scrape(source);
    response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' });
    await sendPieces(response, text.pieces());
  });
}
