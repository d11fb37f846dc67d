import { strict as assert } from 'node:assert';
import { allocationTests } from './allocation.js';
import { copyTests } from './copy.js';
import { eventTests } from './events.js';
import { mapTests } from './mapping.js';
import { SuiteSession, type SuiteTests, type TestDomains } from './session.js';
import { xenstoreTests } from './xenstore.js';

/** The part of vitest, node:test, mocha or jest that the suite needs. */
export interface TestFramework {
  /** Groups the tests that `body` declares. */
  describe(name: string, body: () => void): unknown;
  /** Declares a test, which fails when the promise of `body` rejects. */
  it(name: string, body: () => Promise<void>): unknown;
}

/**
 * What every provider must do alike, as a test suite: `testProvider('emulator', make, { describe, it })`. Each test
 * makes two domains, checks one thing, closes all that it opened and then asks {@link TestDomains.leaks}.
 */
export function testProvider(name: string, makeTwoDomains: () => Promise<TestDomains>, framework: TestFramework): void {
  const { describe, it } = framework;
  const groups: Record<string, SuiteTests> = {
    'event channels': eventTests,
    'grant mapping': mapTests,
    'grant copy': copyTests,
    'grant allocation': allocationTests,
    xenstore: xenstoreTests,
  };
  describe(`${name} provider`, () => {
    for (const [group, tests] of Object.entries(groups)) {
      describe(group, () => {
        for (const [title, test] of Object.entries(tests)) it(title, () => runTest(makeTwoDomains, test));
      });
    }
  });
}

async function runTest(
  makeTwoDomains: () => Promise<TestDomains>,
  test: (session: SuiteSession) => Promise<void>,
): Promise<void> {
  const domains = await makeTwoDomains();
  const session = new SuiteSession(domains);
  try {
    await test(session);
    session.closeAll();
    assert.deepEqual((await domains.leaks?.()) ?? [], [], 'nothing leaked');
  } finally {
    session.closeAll();
    await domains.close();
  }
}
