import { isXenstoreError } from '../errors.js';
import { decodeNumber, decodeStrings, decodeText, encodeStrings, XsOp } from '../wire/wire.js';
import { NodeOperations, nothing } from './node-operations.js';
import type { OperationOptions } from './operations.js';

/** Bits of {@link DaemonOperations.getFeatures} (docs/misc/xenstore-ring.txt). */
export const XenstoreFeature = { reconnection: 1, error: 2, watchDepth: 4, domidAny: 8 } as const;

/** Node operations, and what a toolstack asks of the daemon: about domains, features, quotas. */
export abstract class DaemonOperations extends NodeOperations {
  /** The home of a domain: `/local/domain/5`. The domain need not exist. */
  getDomainPath(domid: number, options?: OperationOptions): Promise<string> {
    return this.#command(XsOp.getDomainPath, [domid], decodeFirst, options);
  }

  /** Tells the daemon of a new domain: its store page and the event channel that the domain left for us. */
  introduceDomain(
    domid: number,
    gfn: number | bigint,
    eventChannel: number,
    options?: OperationOptions,
  ): Promise<void> {
    return this.#command(XsOp.introduce, [domid, gfn, eventChannel], nothing, options);
  }

  /** Tells the daemon that a domain is gone. */
  releaseDomain(domid: number, options?: OperationOptions): Promise<void> {
    return this.#command(XsOp.release, [domid], nothing, options);
  }

  /** Whether the daemon serves that domain. */
  isDomainIntroduced(domid: number, options?: OperationOptions): Promise<boolean> {
    return this.#command(XsOp.isDomainIntroduced, [domid], (payload) => decodeFirst(payload) === 'T', options);
  }

  /** Tells the daemon that a domain lives again after a suspend that it cancelled. */
  resumeDomain(domid: number, options?: OperationOptions): Promise<void> {
    return this.#command(XsOp.resume, [domid], nothing, options);
  }

  /** Gives domain `domid` the rights of `target`, as a stub domain has. */
  setTarget(domid: number, target: number, options?: OperationOptions): Promise<void> {
    return this.#command(XsOp.setTarget, [domid, target], nothing, options);
  }

  /** A request to the daemon itself: `control('check')`. What it answers depends on the daemon. */
  control(command: string, ...args: readonly string[]): Promise<string> {
    return this.#command(XsOp.control, [command, ...args], (payload) => decodeText(payload).replace(/\0+$/, ''));
  }

  /**
   * Features as bits, see {@link XenstoreFeature}: those of the daemon, or those that domain `domid` is shown. 0 from a
   * daemon before Xen 4.21, which cannot tell.
   */
  getFeatures(domid?: number, options?: OperationOptions): Promise<number> {
    const asked = this.#command(XsOp.getFeature, domid === undefined ? [] : [domid], decodeNumber, options);
    return asked.catch((error) => {
      if (isXenstoreError(error, 'ENOSYS')) return 0;
      throw error;
    });
  }

  /** Sets which features a domain is shown, before it starts. ENOSYS from a daemon before Xen 4.21. */
  setFeatures(domid: number, features: number, options?: OperationOptions): Promise<void> {
    return this.#command(XsOp.setFeature, [domid, features], nothing, options);
  }

  /** The names of the quotas that can be read and set. ENOSYS from a daemon before Xen 4.21. */
  quotaNames(options?: OperationOptions): Promise<string[]> {
    const decode = (payload: Uint8Array) => decodeFirst(payload).split(' ').filter(Boolean);
    return this.#command(XsOp.getQuota, [], decode, options);
  }

  /** A quota of a domain, or what new domains get; 0 is none. ENOSYS from a daemon before Xen 4.21. */
  getQuota(name: string, domid?: number, options?: OperationOptions): Promise<number> {
    return this.#command(XsOp.getQuota, domid === undefined ? [name] : [domid, name], decodeNumber, options);
  }

  /** Sets a quota of a domain, or of new domains. ENOSYS from a daemon before Xen 4.21. */
  setQuota(name: string, value: number, domid?: number, options?: OperationOptions): Promise<void> {
    const args = domid === undefined ? [name, value] : [domid, name, value];
    return this.#command(XsOp.setQuota, args, nothing, options);
  }

  #command<T>(
    type: number,
    args: readonly (string | number | bigint)[],
    decode: (payload: Uint8Array) => T,
    options?: OperationOptions,
  ): Promise<T> {
    const payload = encodeStrings(...args.map(String));
    const reply = this.send({ type, path: undefined, payload, decode }, options);
    // oxenstored does not look at a message without payload before the next one comes.
    if (payload.length === 0) void this.getDomainPath(0).catch(() => {});
    return reply;
  }
}

function decodeFirst(payload: Uint8Array): string {
  return decodeStrings(payload)[0] ?? '';
}
