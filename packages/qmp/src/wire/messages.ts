/** Messages of QMP as they are on the wire (QEMU's docs/interop/qmp-spec.rst). */
import type { QmpErrorClass } from '../errors.js';

/** Which program, and which version of it, a greeting names. */
export interface QmpVersion {
  /** The release of QEMU that a client may take the server for: 8.2.0 is `major` 8, `minor` 2, `micro` 0. */
  readonly qemu: { readonly major: number; readonly minor: number; readonly micro: number };
  /** Whose build it is, in words; empty in QEMU's own. */
  readonly package: string;
}

/** The first message of a server. */
export interface QmpGreeting {
  /** The server's version, and what a client may enable by `qmp_capabilities`, such as `oob`. A QmpServer has none. */
  readonly QMP: { readonly version: QmpVersion; readonly capabilities: readonly string[] };
}

/** What a server tells without being asked. */
export interface QmpEvent {
  /** Its name, by custom in capitals: `BLOCK_JOB_COMPLETED`. */
  readonly event: string;
  /** Its own members; absent where it has none. */
  readonly data?: Readonly<Record<string, unknown>> | undefined;
  /** When it happened, by the server's clock since 1970; both are -1 when that failed. */
  readonly timestamp: { readonly seconds: number; readonly microseconds: number };
}

/** What a server says to a client. */
export type QmpAnswer =
  /** The result of a command; `id` is the command's, absent where that had none. */
  | { readonly return: unknown; readonly id?: unknown }
  /** A refusal; also without `id` where what came was no command, or a client is turned away. */
  | { readonly error: { readonly class: QmpErrorClass; readonly desc: string }; readonly id?: unknown };

/** An object with members, and no array. */
export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
