import { XsOp } from '@xenpv/xenstore';
import { expect } from 'vitest';
import { EmulatedXenstored, type EmulatedXenstoredOptions } from '../xenstored.js';
import { RawClient } from './raw-client.js';

/** The daemon of the test that runs. */
export let daemon: EmulatedXenstored;
/** A client of domain 0. */
export let tool: RawClient;

/** Begins a scene: a fresh daemon, and its tool. */
export function start(options?: EmulatedXenstoredOptions): void {
  daemon = new EmulatedXenstored(options);
  tool = RawClient.onTransport(daemon.connect(0));
}

/** A domain with its home, as xl makes it. */
export async function guest(domid: number): Promise<RawClient> {
  const home = `/local/domain/${domid}`;
  await tool.ask(XsOp.mkdir, `${home}\0`);
  await tool.ask(XsOp.setPermissions, `${home}\0n${domid}\0`);
  daemon.introduceDomain(domid);
  return RawClient.onTransport(daemon.connect(domid));
}

/** Asks for what must succeed. */
export async function ok(client: RawClient, type: number, payload: string, transaction = 0): Promise<void> {
  expect(await client.ask(type, payload, transaction)).toBe('OK\0');
}

/** Begins a transaction. */
export async function begin(client: RawClient): Promise<number> {
  return Number.parseInt(await client.ask(XsOp.transactionStart, '\0'), 10);
}
