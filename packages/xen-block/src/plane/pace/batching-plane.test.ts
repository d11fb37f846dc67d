import { type RawQueue, rawQueue } from '@xenpv/blkfront/testing';
import { BlkifOp, RequestWriter } from '@xenpv/blkif';
import { Errno, type EventChannels, type EventSleeper, type XenProvider } from '@xenpv/xen-sys';
import { expect, it, vi } from 'vitest';
import { TestHost } from '../../testing/host.js';

const SLOTS = 32;

type Sleep = (events: EventChannels, ports: Uint32Array, microseconds: number) => number;

/** `target` with another method of that name. */
function withMethod<T extends object, K extends keyof T>(target: T, name: K, method: T[K]): T {
  return new Proxy(target, {
    get(_, key) {
      if (key === name) return method;
      const value = Reflect.get(target, key);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** The embedded provider with a way to sleep, which is the test's. */
function withSleep(provider: XenProvider, sleep: Sleep): XenProvider {
  return withMethod(provider, 'openEventChannels', () => sleepingChannels(provider.openEventChannels(), sleep));
}

function sleepingChannels(events: EventChannels, sleep: Sleep): EventChannels {
  const ports = new Uint32Array(16);
  const unmask = new Uint32Array(16);
  return withMethod(
    events,
    'openSleeper',
    (): EventSleeper => ({
      ports,
      unmask,
      eventfds: new Int32Array(0),
      sleep(unmaskCount, _eventfdCount, _first, microseconds) {
        events.unmask(unmask, unmaskCount);
        return sleep(events, ports, microseconds);
      },
    }),
  );
}

function sendRead(raw: RawQueue, id: number) {
  const words = new Int32Array(raw.abi.slotWords);
  const request = new RequestWriter(words, raw.abi);
  request.readWrite(BlkifOp.read, 1, id, 0, id * 8);
  request.segment(0, raw.page().gref, 0, 7);
  const answer = raw.put(words);
  raw.push();
  return answer;
}

it('a frontend that sends one request after the other is woken for by several, or when a time is over', async () => {
  const sleeps: [limited: boolean, sent: number, late: boolean][] = [];
  const answers: Promise<{ status: number }>[] = [];
  let raw: RawQueue | undefined;
  let idleSleeps = 0;
  // The frontend sends until it is heard, or until its ring is full.
  const sleep: Sleep = (events, ports, microseconds) => {
    if (!raw && microseconds < 0) idleSleeps++;
    if (!raw || answers.length === SLOTS) return Errno.EAGAIN;
    let fired = 0;
    let sent = 0;
    for (; fired === 0 && answers.length < SLOTS; sent++) {
      answers.push(sendRead(raw, answers.length + 1));
      fired = events.pending(ports);
    }
    sleeps.push([microseconds >= 0, sent, fired === 0]);
    return fired > 0 ? fired : Errno.ETIME;
  };
  await using host = await TestHost.start();
  await host.backend.close();
  await host.startBackend({ provider: withSleep(host.xen.provider(0), sleep) });
  const guest = await host.guest();
  const disk = await guest.connect({ ringPageOrder: 0 });
  // Nothing is scheduled any more when a read is followed by a sleep for as long as it may last.
  await vi.waitFor(async () => {
    const before = idleSleeps;
    await disk.read(0, 4096);
    expect(idleSleeps).toBeGreaterThan(before);
  });
  raw = rawQueue(disk);
  answers.push(sendRead(raw, 1));
  await vi.waitFor(() => expect(answers).toHaveLength(SLOTS));
  expect((await Promise.all(answers)).every(({ status }) => status === 0)).toBe(true);

  const alone = sleeps.filter(([limited]) => !limited);
  expect(alone.every(([, sent, late]) => sent === 1 && !late)).toBe(true);
  const [four, eight, last] = sleeps.filter(([limited]) => limited);
  expect(four).toEqual([true, 4, false]);
  expect(eight).toEqual([true, 8, false]);
  // Sixteen were waited for, and fewer came: they are answered all the same.
  expect(last?.[2]).toBe(true);
  await disk.close();
});
