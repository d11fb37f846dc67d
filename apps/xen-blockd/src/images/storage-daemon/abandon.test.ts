import { expect, it } from 'vitest';
import { abandonable } from './abandon.js';

it('a call of hung storage is not waited for once the signal aborts, and what it gives late is disposed of', async () => {
  const stop = new AbortController();
  let answer = (_: string) => {};
  const hung = new Promise<string>((resolve) => {
    answer = resolve;
  });
  const late: string[] = [];
  const waiting = abandonable(hung, stop.signal, (value) => late.push(value));
  stop.abort(new Error('stopped'));
  await expect(waiting).rejects.toThrow('stopped');
  await expect(abandonable(hung, stop.signal, (value) => late.push(value))).rejects.toThrow('stopped');
  answer('a file');
  await hung;
  await Promise.resolve();
  expect(late).toEqual(['a file', 'a file']);
});

it('a call that ends in time gives what it gives, also when the signal aborts later', async () => {
  const stop = new AbortController();
  const late: string[] = [];
  expect(await abandonable(Promise.resolve('a file'), stop.signal, (value) => late.push(value))).toBe('a file');
  await expect(abandonable(Promise.reject(new Error('no')), stop.signal, () => {})).rejects.toThrow('no');
  stop.abort();
  expect(late).toEqual([]);
});
