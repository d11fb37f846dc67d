import { layOver } from '../layers.js';
import type { Machine, MachineDomain } from '../machine/machine.js';
import { SeededDoorbell } from './seeded-doorbell.js';
import type { SeededOrder } from './seeded-order.js';

/** Has the wake-ups of a new domain come in the order that is drawn. To be called before any of its handles is open. */
export function orderDomain(order: SeededOrder, { memory }: MachineDomain): void {
  const { domid } = memory;
  memory.doorbells = (words, at, handle) =>
    new SeededDoorbell(words, at, (wake) => order.post(`domain ${domid} handle ${handle} wakes`, wake));
}

/**
 * An event is pending when it was sent, as on a real Xen; which of those that are pending is told first is drawn. Other
 * threads would have an order of their own: they cannot have this machine.
 */
export function orderMachine(order: SeededOrder, machine: Machine): void {
  machine.oneThread = true;
  machine.opened = (channels) => {
    layOver(channels, 'pending', (inner) => (ports) => {
      const count = inner(ports);
      if (count > 0) order.shuffle(ports, count);
      return count;
    });
  };
}
