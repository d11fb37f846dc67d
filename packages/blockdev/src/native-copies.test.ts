import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { packageRoot } from './package-root.js';

// Both packages are published with what their addon is built from, so each needs a copy.
test.each(['arguments.cc', 'arguments.h', 'typed-memory.h', 'uv-poll.h'])(
  'native/%s is the same as that of @xenpv/xen-sys',
  (name) => {
    const ours = readFileSync(new URL(`native/${name}`, packageRoot()), 'utf8');
    expect(ours).toBe(readFileSync(new URL(`../xen-sys/native/${name}`, packageRoot()), 'utf8'));
  },
);
