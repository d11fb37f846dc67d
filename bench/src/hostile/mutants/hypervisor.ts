import type { EventChannels, GrantCopyBatch, GrantTable, XenProvider } from '@xenpv/xen-sys';
import { except } from '../../program/except.js';
import { inOptions, type Planted } from './planted.js';

export function inGrantTable(make: (inner: GrantTable) => Partial<GrantTable>): Planted {
  return inProvider((provider) => ({
    openGrantTable: () => {
      const inner = provider.openGrantTable();
      return except(inner, make(inner));
    },
  }));
}

export function inEventChannels(make: (inner: EventChannels) => Partial<EventChannels>): Planted {
  return inProvider((provider) => ({
    openEventChannels: () => {
      const inner = provider.openEventChannels();
      return except(inner, make(inner));
    },
  }));
}

function inProvider(make: (inner: XenProvider) => Partial<XenProvider>): Planted {
  return inOptions((options) => ({ ...options, provider: except(options.provider, make(options.provider)) }));
}

/** One segment of a batch of grant copies. */
export interface CopySegment {
  readonly direction: 'fromGuest' | 'toGuest';
  readonly length: number;
  readonly domid: number;
  /** Of the guest's page, and where in it. */
  readonly ref: number;
  readonly offset: number;
  /** Another length, reference or place. */
  change(to: { readonly length?: number; readonly ref?: number; readonly offset?: number }): void;
}

const WORDS = 6;

/** The segments of a batch. */
export function segmentsOf({ words, count }: GrantCopyBatch): CopySegment[] {
  return Array.from({ length: count }, (_, i) => {
    const at = i * WORDS;
    const fromGuest = words[at + 4] >>> 16 === 1;
    const side = at + (fromGuest ? 0 : 2);
    return {
      direction: fromGuest ? 'fromGuest' : 'toGuest',
      length: words[at + 4] & 0xffff,
      domid: words[side + 1] >>> 16,
      ref: words[side],
      offset: words[side + 1] & 0xffff,
      change: ({ length, ref, offset }) => {
        if (length !== undefined) words[at + 4] = (words[at + 4] & ~0xffff) | length;
        if (ref !== undefined) words[side] = ref;
        if (offset !== undefined) words[side + 1] = (words[side + 1] & ~0xffff) | offset;
      },
    };
  });
}
