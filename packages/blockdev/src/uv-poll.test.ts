import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { packageRoot } from './package-root.js';

// Both packages are published with what their addon is built from, so each needs a copy.
test('native/uv-poll.h is the same as that of @xenpv/xen-sys', () => {
  const ours = readFileSync(new URL('native/uv-poll.h', packageRoot), 'utf8');
  expect(ours).toBe(readFileSync(new URL('../xen-sys/native/uv-poll.h', packageRoot), 'utf8'));
});
