import type { XsMessage } from '@xenpv/xenstore';
import type { ErrnoName, Store, StoreView } from '../tree/store.js';
import type { ServerTransaction } from '../tree/transaction.js';
import type { TreeContext } from '../tree/tree.js';
import type { Events } from '../watches/events.js';
import type { ServerConnection } from './connection.js';
import type { DomainRecord, DomainTable } from './domains.js';
import type { MutableQuotas } from './limits.js';

/** What the handlers of requests ask of the daemon. */
export interface RequestHost {
  readonly store: Store;
  readonly domains: DomainTable;
  /** The limits of domains that have none of their own. */
  readonly quotas: MutableQuotas;
  /** What this daemon can do, as bits of docs/misc/xenstore-ring.txt; 0 before GET_FEATURE was invented. */
  readonly features: number;
  /** Whether to make a commit fail. */
  conflict(domid: number): boolean;
  /** Told of each request that is answered with an error. */
  refused(domid: number, error: ErrnoName): void;
  readonly events: Events;
  /** Ends all transactions and watches of a connection. */
  reset(connection: ServerConnection): void;
  introduce(domid: number, port: number): ErrnoName | undefined;
  release(domain: DomainRecord): void;
}

/** One request on its way through a handler. */
export interface Call {
  readonly host: RequestHost;
  readonly connection: ServerConnection;
  readonly message: XsMessage;
  readonly payload: Buffer;
  readonly transaction: ServerTransaction | undefined;
}

/** An answer: what to send back, and what to do after that; or why not. */
export type Answer =
  | string
  | Uint8Array
  | { readonly error: ErrnoName }
  | { readonly reply: string; readonly afterwards: () => void };

export interface Operation {
  readonly handle: (call: Call) => Answer;
  /** Only for domain 0. */
  readonly privileged?: boolean;
  /** Takes no notice of the transaction id. */
  readonly ignoresTransaction?: boolean;
  /** Only in daemons that have features. */
  readonly optional?: boolean;
}

/** Bits of docs/misc/xenstore-ring.txt that this daemon knows. */
export const Feature = { error: 2, watchDepth: 4 } as const;

/** What a request without a result is answered. */
export const OK = 'OK\0';

/** An answer that is an error. */
export function failure(error: ErrnoName): Answer {
  return { error };
}

/** The answer of what has no result. */
export function done(error: ErrnoName | undefined): Answer {
  return error === undefined ? OK : { error };
}

/** Where a request works on the tree: in its transaction, or on the store. */
export function context(call: Call): TreeContext {
  const { host, connection } = call;
  const view: StoreView = call.transaction ?? host.store;
  return { view, domain: connection.domain };
}

/** The payload's strings; what follows the last NUL is none. */
export function strings(payload: Buffer): string[] {
  const parts = payload.toString('latin1').split('\0');
  parts.pop();
  return parts;
}

/** The payload as one string with its NUL, or undefined. */
export function oneString(payload: Buffer): string | undefined {
  const end = payload.indexOf(0);
  return end >= 0 && end === payload.length - 1 ? payload.toString('latin1', 0, end) : undefined;
}

/** A path as the daemon uses it: relative ones are below the domain's home. */
export function absolute(connection: ServerConnection, path: string): string {
  return path[0] === '/' || path[0] === '@' ? path : `${connection.home}/${path}`;
}

/** A handler of requests about one path, which it is given absolute; EINVAL for any other payload. */
export function onePath(handle: (call: Call, path: string) => Answer): (call: Call) => Answer {
  return (call) => {
    const path = oneString(call.payload);
    return path === undefined ? failure('EINVAL') : handle(call, absolute(call.connection, path));
  };
}
