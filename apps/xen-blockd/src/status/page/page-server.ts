import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setImmediate } from 'node:timers/promises';
import { BlockdError } from '../../errors.js';
import { isLoopbackHost, LOOPBACK_ADDRESS_FORM, parseLoopbackAddress } from '../../listen-address.js';
import { packageVersion } from '../../package-root.js';
import { HttpListener, sendPieces } from '../http/http-listener.js';
import type { NotedLine } from '../line-text.js';
import type { DiskKeys } from './disk-keys.js';
import { diskDocument, type PageDisk, wholeDiskDocument } from './documents.js';
import { type PageFile, readPageFiles } from './files.js';
import { DiskHistory, SAMPLE_SECONDS, type SampledDisk } from './history.js';
import { RecentErrors } from './recent-errors.js';

/** What the page tells of. */
export interface PageSource {
  /** The disks of now; none while the daemon starts. */
  disks(): Iterable<PageDisk>;
  /** `qdisk-5-51712`; undefined if it is not there. */
  disk(name: string): PageDisk | undefined;
  sampled(): Iterable<SampledDisk>;
  /** Of the disk of that name. Never rejects. */
  keys(status: PageDisk['status']): Promise<DiskKeys>;
  guestOf(device: string): string | undefined;
  /** Whether disks are being served. */
  started(): boolean;
  xenstoreConnected(): boolean;
}

/** Whoever asks sooner gets the same answer: many who ask cost as much as one. */
const FRESH_MS = 1000;
const API_VERSION = 1;

const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; " +
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'cache-control': 'no-cache',
};

/**
 * The page for people, and its JSON: docs/page.md. It can only be read. It takes samples of the disks while it is there,
 * and none otherwise.
 */
export class PageServer implements AsyncDisposable {
  readonly #source: PageSource;
  readonly #files: ReadonlyMap<string, PageFile>;
  readonly #history = new DiskHistory();
  readonly #errors: RecentErrors;
  /** Tells a client that another process answers now. */
  readonly #instance = randomUUID();
  readonly #disksKept = new Fresh<readonly string[]>(FRESH_MS);
  readonly #diskKept = new Map<string, Fresh<string | undefined>>();
  #timer: NodeJS.Timeout | undefined;
  #listener: HttpListener | undefined;
  #closed = false;

  constructor(source: PageSource) {
    this.#source = source;
    this.#files = readPageFiles();
    this.#errors = new RecentErrors((device) => source.guestOf(device));
    this.#sampleLater();
  }

  /** Error: ERR_SOCKET, also for an address that others than this machine reach. */
  async listen(address: string): Promise<AsyncDisposable> {
    if (parseLoopbackAddress(address) === undefined) {
      const message = `page on ${address}: other machines reach that, and anybody could read; expected ${LOOPBACK_ADDRESS_FORM}`;
      throw new BlockdError('ERR_SOCKET', 'listen', message, { path: address });
    }
    this.#listener = await HttpListener.listen({ what: 'page', address, onlyOwner: true }, (request, response) =>
      this.#answer(request, response),
    );
    return this.#listener;
  }

  /** A line of the log, written or left out. */
  noteLine(kind: string, subject: string | undefined, line: NotedLine): void {
    this.#errors.note(kind, subject, line, performance.now());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#listener?.[Symbol.asyncDispose]();
  }

  /** At the next whole step of the clock that never goes back; a late timer leaves a gap and moves nothing. */
  #sampleLater(): void {
    if (this.#closed) return;
    const step = SAMPLE_SECONDS * 1000;
    this.#timer = setTimeout(
      () => {
        this.#history
          .sample(this.#source.sampled(), () => performance.now(), setImmediate)
          .catch(() => {})
          .finally(() => this.#sampleLater());
      },
      step - (performance.now() % step) + 1,
    ).unref();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
    if (!isOwnHost(request.headers.host)) {
      // A name of somebody else's that was made to mean this machine: a page of theirs would read along.
      return sendText(
        response,
        421,
        'This page is for localhost. Ask for it as http://localhost:PORT/, through ssh -L too.\n',
      );
    }
    const path = /^\/[^?#]*/.exec(request.url ?? '')?.[0] ?? '';
    const file = this.#files.get(path);
    if (file) return sendFile(request, response, file);
    if (path === '/api/disks') return sendJson(response, await this.#disksKept.get(() => this.#disks()));
    const [, name] = /^\/api\/disks\/(\w{1,32}-\d{1,10}-\d{1,10})$/.exec(path) ?? [];
    const disk = name === undefined ? undefined : await this.#diskNamed(name);
    if (disk !== undefined) return sendJson(response, [disk]);
    const what = name === undefined ? 'no such page; there are / and /api/disks' : `no disk ${name}`;
    return sendJson(response, [JSON.stringify({ error: what })], 404);
  }

  /** In pieces, of one disk each. */
  async #disks(): Promise<string[]> {
    const about = {
      version: API_VERSION,
      daemon: {
        version: packageVersion(),
        instance: this.#instance,
        uptimeSeconds: Math.round(process.uptime()),
        starting: !this.#source.started(),
        xenstoreConnected: this.#source.xenstoreConnected(),
      },
      sampleSeconds: SAMPLE_SECONDS,
      errors: this.#errors.list(performance.now()),
    };
    const pieces = [`${JSON.stringify(about).slice(0, -1)},"disks":[`];
    let between = '';
    for (const disk of this.#source.disks()) {
      pieces.push(between + JSON.stringify(diskDocument(disk, this.#history, { wall: Date.now() })));
      between = ',';
      await setImmediate();
    }
    return [...pieces, ']}'];
  }

  #diskNamed(name: string): Promise<string | undefined> {
    for (const [key, kept] of this.#diskKept) if (kept.isOld) this.#diskKept.delete(key);
    const kept = this.#diskKept.get(name) ?? new Fresh<string | undefined>(FRESH_MS);
    // Only names of disks are kept: anything can be asked for.
    if (!this.#diskKept.has(name)) {
      if (this.#source.disk(name) === undefined) return Promise.resolve(undefined);
      this.#diskKept.set(name, kept);
    }
    return kept.get(async () => {
      const disk = this.#source.disk(name);
      if (!disk) return undefined;
      const keys = await this.#source.keys(disk.status);
      const errors = this.#errors.list(performance.now(), name);
      return JSON.stringify({
        version: API_VERSION,
        instance: this.#instance,
        disk: wholeDiskDocument(disk, this.#history, { wall: Date.now(), errors, keys }),
      });
    });
  }
}

/** Something that is made when it is asked for, once for all who ask within a time. */
class Fresh<T> {
  readonly #ms: number;
  #at = Number.NEGATIVE_INFINITY;
  #value: Promise<T> | undefined;

  constructor(milliseconds: number) {
    this.#ms = milliseconds;
  }

  get isOld(): boolean {
    return performance.now() - this.#at > this.#ms;
  }

  get(make: () => Promise<T>): Promise<T> {
    if (this.#value === undefined || this.isOld) {
      this.#at = Number.POSITIVE_INFINITY;
      this.#value = make().finally(() => {
        this.#at = performance.now();
      });
    }
    return this.#value;
  }
}

/** Whether a Host header names this machine, whatever the port: a tunnel has one of its own. */
function isOwnHost(host: string | undefined): boolean {
  const [, bracketed, name] = /^(?:\[([0-9a-f:]{2,39})\]|([\w.-]{1,64}))(?::\d{1,5})?$/i.exec(host ?? '') ?? [];
  return isLoopbackHost(bracketed ?? name ?? '');
}

function sendText(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' }).end(text);
}

function sendFile(request: IncomingMessage, response: ServerResponse, { type, body, etag }: PageFile): void {
  if (request.headers['if-none-match'] === etag) {
    response.writeHead(304, { etag }).end();
    return;
  }
  response.writeHead(200, { 'content-type': type, etag, 'content-length': body.length }).end(body);
}

function sendJson(response: ServerResponse, pieces: readonly string[], status = 200): Promise<void> {
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-store' });
  return sendPieces(response, pieces);
}
