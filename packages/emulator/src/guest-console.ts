import {
  type Domid,
  type EventChannels,
  type EvtchnPort,
  type GrantAllocator,
  type GrantedPages,
  XEN_PAGE_SIZE,
} from '@xenpv/xen-sys';
import { backendPath, domainPath, XenbusState } from '@xenpv/xenbus';
import type { XenstoreOperations } from '@xenpv/xenstore';
import type { EmulatedProvider } from './provider.js';
import { removeWithEmptyParents } from './toolstack/disk-nodes.js';

/** Bytes that xenconsoled keeps of a console that nobody reads (libxl's LIBXL_XENCONSOLE_LIMIT). */
const LIMIT_BYTES = 1024 * 1024;

/**
 * The console that a guest has from its first moment, as libxl's domain builder makes it: a page and an event channel for
 * domain 0, named in xenstore. The guest's end is here; a backend finds its own at `console` in the guest's directory.
 */
export class GuestConsole implements Disposable {
  /** The page of the ring, `struct xencons_interface` of Xen's io/console.h. */
  readonly page: GrantedPages;
  /** The guest's handle that {@link port} is bound on. */
  readonly events: EventChannels;
  /** The guest's port, which domain 0 may bind. */
  readonly port: EvtchnPort;
  readonly #allocator: GrantAllocator;

  constructor(guest: EmulatedProvider) {
    this.#allocator = guest.openGrantAllocator();
    this.page = this.#allocator.allocate(0, 1, { writable: true });
    this.events = guest.openEventChannels();
    this.events.unref();
    this.port = this.events.bindUnbound(0);
  }

  /** The number of the page's frame, by which domain 0 maps it as foreign memory. */
  get frame(): number {
    return this.page.offsets[0] / XEN_PAGE_SIZE;
  }

  /** Writes what libxl writes of it, the directory of a backend in domain 0 too, in the caller's transaction. */
  async writeNodes(tx: XenstoreOperations, domid: Domid): Promise<void> {
    const path = `${domainPath(domid)}/console`;
    const backend = consoleBackend(domid);
    await writeAll(tx, path, [0, domid], {
      backend,
      'backend-id': 0,
      limit: LIMIT_BYTES,
      type: 'xenconsoled',
      output: 'pty',
      tty: '',
      port: this.port,
      'ring-ref': this.frame,
    });
    await writeAll(tx, backend, [0, domid], {
      frontend: path,
      'frontend-id': domid,
      online: 1,
      state: XenbusState.initialising,
      protocol: 'vt100',
    });
  }

  /** Gives back what it takes of the guest. Harmless when repeated. */
  close(): void {
    this.events.close();
    this.#allocator.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Removes the backend's directory of a guest's console, in the caller's transaction. */
export function removeConsoleBackend(tx: XenstoreOperations, domid: Domid): Promise<void> {
  return removeWithEmptyParents(tx, consoleBackend(domid));
}

function consoleBackend(domid: Domid): string {
  return backendPath(0, { type: 'console', domid, devid: 0 });
}

/** A directory that `owner` has and `reader` may read, and what is in it. */
async function writeAll(
  tx: XenstoreOperations,
  path: string,
  [owner, reader]: readonly [number, number],
  values: Readonly<Record<string, string | number>>,
): Promise<void> {
  await tx.mkdir(path);
  await tx.setPermissions(path, [
    { domid: owner, access: 'n' },
    { domid: reader, access: 'r' },
  ]);
  for (const [name, value] of Object.entries(values)) await tx.write(`${path}/${name}`, value);
}
