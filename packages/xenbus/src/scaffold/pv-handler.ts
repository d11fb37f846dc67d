import type { GrantTable } from '@xenpv/xen-sys';
import { readTree, type TreeSchema } from '@xenpv/xenstore';
import { XenbusError } from '../errors.js';
import type { BackendContext, BackendHandler, CallOptions, KeyTexts, XenstoreValues } from '../handler/handler.js';
import type { EventRouter } from '../link/event-router.js';
import { LATE, withinDeadline } from '../waiting/deadline.js';
import { DeviceLink } from './device-link.js';
import type { PvDevice } from './pv-device.js';

/** How long a listener may be at work when its connection ends, in milliseconds. */
const QUIET_MS = 5000;

/** What all devices of a backend have in common. */
export interface PvHandlerOptions<K extends TreeSchema, C extends TreeSchema> {
  readonly keys: K;
  readonly config: C;
  readonly grants: GrantTable;
  readonly router: EventRouter;
}

/** Carries the calls of the bus to a {@link PvDevice}: keys are read, and the link made and unwound, around them. */
export class PvHandler<K extends TreeSchema, C extends TreeSchema, D extends PvDevice<K, C>> implements BackendHandler {
  /** The author's own. */
  readonly device: D;
  readonly keys: readonly string[];
  readonly changed?: (values: KeyTexts, options: CallOptions) => Promise<void>;
  readonly #context: BackendContext;
  readonly #options: PvHandlerOptions<K, C>;
  #link: DeviceLink | undefined;

  constructor(device: D, context: BackendContext, options: PvHandlerOptions<K, C>) {
    this.device = device;
    this.#context = context;
    this.#options = options;
    this.keys = Object.keys(options.config);
    if (device.changed !== undefined) this.changed = (_values, { signal }) => this.#changed(signal);
  }

  async prepare({ offered, signal }: CallOptions & { offered: boolean }): Promise<XenstoreValues> {
    if (this.device.prepare === undefined) return {};
    return (await this.device.prepare({ config: await this.#readConfig(signal), offered, signal })) || {};
  }

  async connect({ adopt, signal }: CallOptions & { adopt: boolean }): Promise<XenstoreValues> {
    const { store, frontendPath } = this.#context;
    const readMore = <const T extends TreeSchema>(schema: T, below?: string) =>
      readTree(store, below === undefined ? frontendPath : `${frontendPath}/${below}`, schema, { signal });
    const keys = await readMore(this.#options.keys);
    const link = this.#makeLink();
    this.#link = link;
    const published = (await this.device.connect({ keys, link, readMore, adopt, signal })) || {};
    link.open({ adopt });
    return published;
  }

  async disconnect(how: { readonly leave: boolean }): Promise<void> {
    const link = this.#link;
    if (link === undefined) return;
    this.#link = undefined;
    try {
      if ((await withinDeadline(link.quieten(), QUIET_MS)) === LATE) this.#reportLate();
      await this.device.disconnect?.(how);
    } finally {
      link.unwind();
    }
  }

  async close(how: { readonly leave: boolean }): Promise<void> {
    await this.device.close?.(how);
  }

  async #changed(signal: AbortSignal): Promise<void> {
    await this.device.changed?.({ config: await this.#readConfig(signal), signal });
  }

  #readConfig(signal: AbortSignal) {
    const { store, backendPath } = this.#context;
    return readTree(store, backendPath, this.#options.config, { signal });
  }

  #makeLink(): DeviceLink {
    const { grants, router } = this.#options;
    const { address, name } = this.#context;
    return new DeviceLink({ domid: address.domid, name, grants, router, fail: (error) => this.#context.fail(error) });
  }

  #reportLate(): void {
    const text = `a listener of ${this.#context.name} did not end within ${QUIET_MS} ms; its pages are taken back`;
    this.#context.report(new XenbusError('ETIMEDOUT', 'disconnect', text));
  }
}
