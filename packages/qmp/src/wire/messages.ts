/** Messages of QMP as they are on the wire (QEMU's docs/interop/qmp-spec.rst). */
import type { QmpErrorClass } from '../errors.js';

/** Which program, and which version of it, a greeting names. */
export interface QmpVersion {
  readonly qemu: { readonly major: number; readonly minor: number; readonly micro: number };
  readonly package: string;
}

/** The first message of a server. */
export interface QmpGreeting {
  readonly QMP: { readonly version: QmpVersion; readonly capabilities: readonly string[] };
}

/** What happened, when it did. */
export interface QmpEvent {
  readonly event: string;
  readonly data?: Readonly<Record<string, unknown>> | undefined;
  /** Since 1970; -1 when the server's clock failed. */
  readonly timestamp: { readonly seconds: number; readonly microseconds: number };
}

/** What a server says to a client. */
export type QmpAnswer =
  | { readonly return: unknown; readonly id?: unknown }
  | { readonly error: { readonly class: QmpErrorClass; readonly desc: string }; readonly id?: unknown };

/** An object with members, and no array. */
export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
