import type { Machine } from './machine.js';

/** The machines that this thread sees, by name: its own and those that it attached to. */
export const machines = new Map<string, Machine>();
