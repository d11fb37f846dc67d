import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import { isListenedOn } from '@xenpv/test-support/ports';
import { expect } from 'vitest';

const SOON = { timeout: 30_000, interval: 20 };

/** A socket's path, or a port of this machine. */
export type ExportPlace = string | number;

export interface ServedExport {
  readonly place: ExportPlace;
  /** A raw image. */
  readonly image: string;
  readonly name: string;
  readonly readOnly?: boolean | undefined;
  /** By TLS, with the certificates of this folder, which clients must have too. */
  readonly certificates?: string | undefined;
}

/** QEMU's NBD server, which is nobody's helper. What it has not flushed is in the page cache. */
export class NbdExport implements AsyncDisposable {
  readonly #server: ChildProcess;

  private constructor(server: ChildProcess) {
    this.#server = server;
  }

  static async start({ place, image, name, readOnly = false, certificates }: ServedExport): Promise<NbdExport> {
    const tls = `tls-creds-x509,id=tls,dir=${certificates},endpoint=server,verify-peer=on`;
    if (typeof place === 'string') rmSync(place, { force: true });
    const listening =
      typeof place === 'string'
        ? `addr.type=unix,addr.path=${place}`
        : `addr.type=inet,addr.host=127.0.0.1,addr.port=${place}`;
    const server = spawn('qemu-storage-daemon', [
      ...(certificates === undefined ? [] : ['--object', tls]),
      ...['--blockdev', `driver=file,node-name=disk,filename=${image},read-only=${readOnly ? 'on' : 'off'}`],
      ...['--nbd-server', `${listening}${certificates === undefined ? '' : ',tls-creds=tls'},max-connections=0`],
      ...['--export', `type=nbd,id=disk,node-name=disk,name=${name},writable=${readOnly ? 'off' : 'on'}`],
    ]);
    const isThere = () => (typeof place === 'string' ? existsSync(place) : isListenedOn(place));
    await expect.poll(isThere, SOON).toBe(true);
    return new NbdExport(server);
  }

  async kill(): Promise<void> {
    if (this.#server.exitCode !== null || this.#server.signalCode !== null) return;
    this.#server.kill('SIGKILL');
    await once(this.#server, 'exit');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }
}
