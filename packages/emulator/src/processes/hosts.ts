import type { Machine } from '../machine/machine.js';

/** The machines in folders whose host is this thread, by folder. Here a hypercall would wait for itself. */
export const hosts = new Map<string, Machine>();
