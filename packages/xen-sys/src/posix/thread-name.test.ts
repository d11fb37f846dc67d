import { readFileSync } from 'node:fs';
import { needs } from '@xenpv/test-support';
import { expect, it } from 'vitest';
import { nameThread } from './thread-name.js';

const ownName = () => readFileSync('/proc/thread-self/comm', 'utf8').trimEnd();

needs('Linux').describe('nameThread', () => {
  it('names the calling thread, with as much as the kernel keeps', () => {
    const before = ownName();
    try {
      nameThread('more-than-fifteen-bytes');
      expect(ownName()).toBe('more-than-fifte');
    } finally {
      nameThread(before);
    }
    expect(ownName()).toBe(before);
  });
});
