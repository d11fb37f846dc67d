import type { DomainSnapshot } from '../machine/memory.js';

/** What the threads of one emulated machine tell each other on its BroadcastChannel. */
export type Announcement =
  /** A thread has attached and asks for what it missed. */
  | { readonly kind: 'hello'; readonly from: string }
  /** The answer: every domain there is. */
  | {
      readonly kind: 'welcome';
      readonly to: string;
      readonly lock: SharedArrayBuffer;
      readonly domains: readonly DomainSnapshot[];
    }
  /** Sent before anybody can hear of the domain in another way. */
  | { readonly kind: 'created'; readonly domain: DomainSnapshot }
  | { readonly kind: 'destroyed'; readonly domid: number }
  /** A thread made a pipe and wants xenstored at its other end. */
  | { readonly kind: 'xenstore'; readonly domid: number; readonly memory: SharedArrayBuffer };

/** What {@link SharedProvider.data} of an emulated provider is. */
export interface SharedMachine {
  /** The machine's BroadcastChannel. */
  readonly machine: string;
  readonly domid: number;
  /** Whether no other thread may have it. */
  readonly oneThread: boolean;
}
