import { createServer, type Server } from 'node:http';
import { ACCOUNTING_CLASSES } from '@xenpv/xen-block';
import { Counter, Gauge, Registry } from 'prom-client';
import { BlockdError } from '../errors.js';
import { listenOnUnixSocket } from '../unix-socket.js';
import type { DeviceStatus } from './device-status.js';

const DEVICE = ['device', 'domid', 'vdev'] as const;

/** The counters of all disks in Prometheus's text format. The registry lives for one answer: devices come and go. */
async function formatMetrics(devices: () => Iterable<DeviceStatus>): Promise<string> {
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
  const requests = counter('requests_total', 'Requests answered with OKAY', byClass);
  const bytes = counter('bytes_total', 'Bytes moved', byClass);
  const failed = counter('requests_failed_total', 'Requests that storage or grants failed', byClass);
  const invalid = counter('requests_invalid_total', 'Requests refused', byClass);
  const merged = counter('requests_merged_total', 'Requests joined with a neighbour', byClass);
  const seconds = counter('request_seconds_total', 'Time from taken to answered, summed', byClass);
  const errors = counter('storage_errors_total', 'Requests that the storage failed', [...byClass, 'errno']);
  const stopped = gauge('stopped', 'Whether an error of the storage has stopped the disk (0 or 1)');
  const kept = gauge('requests_kept', 'Failed requests that are kept until the disk is resumed');
  const oldest = gauge('oldest_request_seconds', 'Age of the oldest request in flight');
  for (const status of devices()) {
    const { device, domid, vdev, connected: isConnected, statistics } = status;
    const labels = { device, domid, vdev: vdev ?? '' };
    connected.set(labels, Number(isConnected));
    inFlight.set(labels, statistics.inFlight);
    stopped.set(labels, Number(status.stopped !== undefined));
    kept.set(labels, statistics.kept);
    oldest.set(labels, status.oldestRequestMs / 1000);
    notifications.inc(labels, statistics.notifications);
    events.inc(labels, statistics.events);
    overlooked.inc(labels, statistics.overlooked);
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

/** Serves `GET /metrics` on a Unix socket (a path) or a TCP port (`HOST:PORT`; no host is localhost). */
export class MetricsServer implements AsyncDisposable {
  readonly #server: Server;

  private constructor(devices: () => Iterable<DeviceStatus>) {
    this.#server = createServer((request, response) => {
      if (request.url !== '/metrics') {
        response.writeHead(404).end();
        return;
      }
      formatMetrics(devices).then(
        (text) => response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }).end(text),
        (error) => response.writeHead(500).end(String(error)),
      );
    });
  }

  /** Error: ERR_SOCKET. */
  static async listen(address: string, devices: () => Iterable<DeviceStatus>): Promise<MetricsServer> {
    const metrics = new MetricsServer(devices);
    if (address.startsWith('/')) await listenOnUnixSocket(metrics.#server, address);
    else await metrics.#listenOnPort(address);
    return metrics;
  }

  #listenOnPort(address: string): Promise<void> {
    const colon = address.lastIndexOf(':');
    const host = address.slice(0, colon) || 'localhost';
    return new Promise((resolve, reject) => {
      this.#server.once('error', (cause) => {
        const message = `metrics on ${address}: ${cause.message}; choose another`;
        reject(new BlockdError('ERR_SOCKET', 'listen', message, { path: address, cause }));
      });
      this.#server.listen(Number(address.slice(colon + 1)), host, resolve);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }
}
