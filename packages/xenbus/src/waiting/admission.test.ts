import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { Admission } from './admission.js';

/** Tries to enter, and says who is inside. */
function visitors(admission: Admission, count: number) {
  const inside: number[] = [];
  const leave: (() => void)[] = [];
  for (let n = 0; n < count; n++) {
    void admission.enter().then((done) => {
      inside.push(n);
      leave[n] = done;
    });
  }
  return { inside, leave };
}

describe('an admission', () => {
  it('lets a few begin, then each in its turn when one has done, though it says so twice', async () => {
    using admission = new Admission(2, 1e6);
    const { inside, leave } = visitors(admission, 5);
    await turn();
    expect(inside).toEqual([0, 1]);
    leave[1]();
    leave[1]();
    await turn();
    expect(inside).toEqual([0, 1, 2]);
    leave[0]();
    leave[2]();
    await turn();
    expect(inside).toEqual([0, 1, 2, 3, 4]);
  });

  it('has room again for those that come when all have done', async () => {
    using admission = new Admission(1, 1e6);
    for (let round = 0; round < 3; round++) {
      const { inside, leave } = visitors(admission, 2);
      await turn();
      leave[0]();
      await turn();
      leave[1]();
      expect(inside).toEqual([0, 1]);
    }
  });

  it('does not wait long for one, which may say later that it has done', async () => {
    using admission = new Admission(1, 20);
    const { inside, leave } = visitors(admission, 3);
    await vi.waitFor(() => expect(inside).toEqual([0, 1, 2]));
    for (const done of leave) done();
    const more = visitors(admission, 2);
    await turn();
    expect(more.inside).toEqual([0]);
  });

  it('lets all begin when it ends', async () => {
    const admission = new Admission(1, 1e6);
    const { inside } = visitors(admission, 3);
    await turn();
    admission[Symbol.dispose]();
    await turn();
    expect(inside).toEqual([0, 1, 2]);
    const { inside: late } = visitors(admission, 2);
    await turn();
    expect(late).toEqual([0, 1]);
  });
});
