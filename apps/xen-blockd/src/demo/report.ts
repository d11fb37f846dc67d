import type { DomainUsage } from '@xenpv/emulator';
import type { DiskStatistics } from '@xenpv/xen-block';
import { formatBytes } from '../status/format.js';
import { formatStatistics } from '../status/statistics-table.js';
import type { GuestDisk } from './guest-messages.js';
import { formatStep, type HandshakeStep } from './handshake.js';

/** What a guest's domain still holds after the detach; a clean one leaves nothing. */
export type Leftovers = Pick<DomainUsage, 'grants' | 'mapped' | 'ports'>;

/** A disk that a guest has read whole. */
export interface DiskRead {
  readonly disk: GuestDisk;
  readonly sha256: string;
  readonly milliseconds: number;
}

/** What happened to one guest. */
export interface GuestReport {
  readonly name: string;
  readonly domid: number;
  readonly handshake: HandshakeStep[];
  disk?: GuestDisk;
  /** Of the whole disk; absent with --nbd. */
  sha256?: string;
  milliseconds?: number;
  statistics?: DiskStatistics | undefined;
  left?: Leftovers;
}

/** Shows what happens: as text while it happens, or as one JSON object at the end. */
export interface DemoReporter {
  line(text: string): void;
  step(guest: GuestReport, step: HandshakeStep): void;
  read(guest: GuestReport, read: DiskRead): void;
  statistics(guest: GuestReport, statistics: DiskStatistics | undefined): void;
  detached(guest: GuestReport, left: Leftovers): void;
  end(summary: Readonly<Record<string, unknown>>, guests: readonly GuestReport[]): void;
}

/** Text on standard output. The first guest's handshake is shown whole, of the others' only the states. */
export function textReporter(write: (text: string) => void): DemoReporter {
  return {
    line: (text) => write(`${text}\n`),
    step: (guest, step) => {
      if (guest.domid === 1 || step.key === 'state') write(`${guest.name}  ${formatStep(step)}\n`);
    },
    read: ({ name }, { disk, sha256, milliseconds }) => {
      const rate = formatBytes((disk.size / milliseconds) * 1000);
      write(`${name}  read ${formatBytes(disk.size)} in ${milliseconds.toFixed(0)} ms, ${rate}/s\nsha256 ${sha256}\n`);
    },
    statistics: ({ name }, statistics) => {
      if (statistics) write(`${name}  counters of the device\n${formatStatistics(statistics)}\n`);
    },
    detached: ({ name }, { grants, mapped, ports }) => {
      write(`${name}  detached; left behind: ${grants} grants, ${mapped} mappings, ${ports} event channels\n`);
    },
    end: () => {},
  };
}

/** `now` gets `nbd ready SOCKET` when the socket is ready; everything else waits for the end. */
export function jsonReporter(write: (text: string) => void, now: (text: string) => void): DemoReporter {
  return {
    line: (text) => {
      if (text.startsWith('nbd ready ')) now(`${text}\n`);
    },
    step: () => {},
    read: () => {},
    statistics: () => {},
    detached: () => {},
    end: (summary, guests) => write(`${JSON.stringify({ ...summary, guests }, null, 2)}\n`),
  };
}
