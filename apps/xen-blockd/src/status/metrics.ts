import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { ACCOUNTING_CLASSES } from '@xenpv/xen-block';
import { type GuestCounters, printable } from '@xenpv/xenbus';
import { BlockdError } from '../errors.js';
import { LISTEN_ADDRESS_FORM, parseListenAddress } from '../listen-address.js';
import { listenOnUnixSocket } from '../unix-socket.js';
import type { DeviceStatus } from './device-status.js';

const DEVICE = ['device', 'domid', 'vdev'] as const;

/** What the metrics tell of. */
export interface MetricsSource {
  devices(): Iterable<DeviceStatus>;
  /** What guests that have disks have made the daemon do in xenstore. */
  guests(): Iterable<GuestCounters>;
  /** Lines of the log that could not be written, and that were too many of their kind. */
  logLines(): { readonly lost: number; readonly suppressed: number };
}

/** Of each guest, by the counter that has it. */
const OF_GUESTS: Readonly<Record<Exclude<keyof GuestCounters, 'domid'>, readonly [name: string, help: string]>> = {
  watchEvents: ['watch_events_total', "Watch events of the guest's frontends"],
  watchEventsDelayed: [
    'watch_events_delayed_total',
    'Watch events that came too fast, and were looked at with later ones',
  ],
  reconnects: ['reconnects_total', 'Connections of disks that had been connected before'],
  reconnectsDelayed: ['reconnects_delayed_total', 'Reconnections that came too fast, and had to wait'],
  errorNodes: ['error_nodes_total', 'Writes of error nodes'],
  errorNodesDelayed: [
    'error_nodes_delayed_total',
    'Writes of error nodes that came too fast, and waited for later ones',
  ],
};

/** All counters in Prometheus's text format. The registry lives for one answer: devices come and go. */
async function formatMetrics(source: MetricsSource): Promise<string> {
  // Most daemons are never asked, and guests wait for each module that a start loads.
  const { Counter, Gauge, Registry } = await import('prom-client');
  const registry = new Registry();
  const options = (name: string, help: string, labels: readonly string[]) => ({
    name: `xen_blockd_${name}`,
    help,
    labelNames: [...labels],
    registers: [registry],
  });
  const gauge = (name: string, help: string) => new Gauge(options(name, help, DEVICE));
  const counter = (name: string, help: string, labels: readonly string[]) => new Counter(options(name, help, labels));
  const byClass = [...DEVICE, 'operation'];
  const connected = gauge('connected', 'Whether a frontend is served (0 or 1)');
  const inFlight = gauge('requests_in_flight', 'Requests taken and not answered');
  const notifications = counter('notifications_total', 'Events sent to the frontend', DEVICE);
  const events = counter('events_total', 'Events received from the frontend', DEVICE);
  const overlooked = counter(
    'rings_overlooked_total',
    'Times that a ring had requests and nobody looked at it for a second',
    DEVICE,
  );
  const starved = counter('requests_starved_total', 'Requests that had to wait for buffer memory', DEVICE);
  const inexact = counter(
    'storage_results_inexact_total',
    'Results of the storage that were neither the length asked for nor an error, or came twice',
    DEVICE,
  );
  const recovered = counter(
    'recovered_requests_total',
    'Requests that an earlier process took and did not answer, carried out again',
    DEVICE,
  );
  const throttled = counter(
    'throttled_seconds_total',
    'Time that rings had requests which a limit did not let them take, summed',
    DEVICE,
  );
  const requests = counter('requests_total', 'Requests answered with OKAY', byClass);
  const bytes = counter('bytes_total', 'Bytes moved', byClass);
  const failed = counter('requests_failed_total', 'Requests that storage or grants failed', byClass);
  const invalid = counter('requests_invalid_total', 'Requests refused', byClass);
  const merged = counter('requests_merged_total', 'Requests joined with a neighbour', byClass);
  const seconds = counter('request_seconds_total', 'Time from taken to answered, summed', byClass);
  const errors = counter('storage_errors_total', 'Requests that the storage failed', [...byClass, 'errno']);
  const stopped = gauge('stopped', 'Whether an error of the storage has stopped the disk (0 or 1)');
  const held = gauge('held', 'Whether the disk cannot be served now, and its connected frontend waits (0 or 1)');
  const kept = gauge('requests_kept', 'Failed requests that are kept until the disk is resumed');
  const waiting = gauge(
    'requests_waiting',
    "Requests in flight that wait for the disk's share of memory or its guest's turn",
  );
  const bufferBytes = gauge('buffer_bytes', 'Buffer memory that requests in flight have');
  const oldest = gauge('oldest_request_seconds', 'Age of the oldest request in flight');
  const { lost, suppressed } = source.logLines();
  counter('log_lines_lost_total', 'Lines of the log that could not be written', []).inc(lost);
  counter('log_lines_suppressed_total', 'Lines of the log left out, too many of one kind', []).inc(suppressed);
  const guests = [...source.guests()];
  for (const [key, [name, help]] of Object.entries(OF_GUESTS)) {
    const counted = counter(name, help, ['domid']);
    for (const guest of guests) counted.inc({ domid: guest.domid }, guest[key as keyof typeof OF_GUESTS]);
  }
  for (const status of source.devices()) {
    const { device, domid, vdev, connected: isConnected, statistics } = status;
    const labels = { device, domid, vdev: printable(vdev ?? '') };
    connected.set(labels, Number(isConnected));
    inFlight.set(labels, statistics.inFlight);
    stopped.set(labels, Number(status.stopped !== undefined));
    held.set(labels, Number(status.held !== undefined));
    kept.set(labels, statistics.kept);
    waiting.set(labels, statistics.waiting);
    bufferBytes.set(labels, statistics.bufferBytes);
    oldest.set(labels, status.oldestRequestMs / 1000);
    notifications.inc(labels, statistics.notifications);
    events.inc(labels, statistics.events);
    recovered.inc(labels, statistics.recovered);
    starved.inc(labels, statistics.starved);
    inexact.inc(labels, statistics.inexact);
    overlooked.inc(labels, statistics.overlooked);
    throttled.inc(labels, statistics.throttledTimeNs / 1e9);
    for (const operation of ACCOUNTING_CLASSES) {
      const counted = statistics[operation];
      const both = { ...labels, operation };
      requests.inc(both, counted.operations);
      bytes.inc(both, counted.bytes);
      failed.inc(both, counted.failed);
      invalid.inc(both, counted.invalid);
      for (const [errno, count] of Object.entries(counted.errors)) errors.inc({ ...both, errno }, count);
      merged.inc(both, counted.merged);
      seconds.inc(both, counted.totalTimeNs / 1e9);
    }
  }
  return registry.metrics();
}

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
      formatMetrics(source).then(
        (text) => response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }).end(text),
        (error) => response.writeHead(500).end(printable(String(error))),
      );
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

function refused(address: string, problem: string, cause?: unknown): BlockdError {
  return new BlockdError('ERR_SOCKET', 'listen', `metrics on ${address}: ${problem}`, { path: address, cause });
}
