/** The tests' vocabulary: groups that share a set-up, and the tests in them, in order. */
export const groups = [];

/**
 * A group of tests. `setup(context)` runs before its first chosen test and `teardown(context)` after the last, both
 * with the object that the tests get. `xen`: only on these releases. `inOrder`: each test goes on from
 * what the one before it left, so that none can be run again.
 */
export function group(
  name,
  { setup = async () => {}, teardown = async () => {}, after = async () => {}, xen, inOrder = false } = {},
  tests,
) {
  groups.push({ name, setup, teardown, after, xen, inOrder, tests });
}

/** One test; `minutes` is when it is given up. It returns a note for the report, or nothing. */
export function test(name, run, { minutes = 5, xen } = {}) {
  return { name, run, minutes, xen };
}
