import { XenSysError } from '@xenpv/xen-sys';
import { type MemoryMisuse, misuseOf } from './machine/free-frames.js';
import type { Machine, MachineDomain } from './machine/machine.js';

/** The memory of a host whose misuse is an error. */
export class StrictMemory {
  readonly #machine: Machine;
  /** In domains that are gone. */
  readonly #past: MemoryMisuse[] = [];

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  /** What was found until now. */
  misuses(): MemoryMisuse[] {
    return [...this.#past, ...this.#machine.domains().flatMap((domain) => look(domain) ?? [])];
  }

  /** A domain is about to end. */
  remember(domid: number): void {
    const domain = this.#machine.find(domid);
    const misuse = domain && look(domain);
    if (misuse !== undefined) this.#past.push(misuse);
  }
}

/** The error that tells of misuse. */
export function misuseError(misuses: readonly MemoryMisuse[]): XenSysError {
  const lines = misuses.map(({ domid, frame, offset, count }) => {
    const others = count > 1 ? `, and ${count - 1} more` : '';
    return `frame ${frame} of domain ${domid} from byte ${offset} on${others}`;
  });
  const why = 'after it was unmapped or released, or past the end of a page';
  return new XenSysError(
    'EFAULT',
    'host.close',
    `memory was written to that nobody may use, ${why}: ${lines.join('; ')}`,
  );
}

function look(domain: MachineDomain): MemoryMisuse | undefined {
  domain.grants.checkFreeFrames();
  return misuseOf(domain.memory);
}
