const LIMIT_MS = 60_000;

/** Runs `[{ name, check }]` in order, prints what failed and `N passed, N failed`, and ends the process. */
export async function runCases(cases) {
  const totals = { passed: 0, failed: 0 };
  for (const { name, check } of cases) {
    const timer = setTimeout(() => {
      console.log(`FAIL  ${name}: hangs`);
      process.exit(1);
    }, LIMIT_MS);
    try {
      await check();
      totals.passed++;
    } catch (error) {
      totals.failed++;
      console.log(`FAIL  ${name}: ${error.stack}`);
    }
    clearTimeout(timer);
  }
  console.log(`${totals.passed} passed, ${totals.failed} failed`);
  process.exit(totals.failed > 0 || totals.passed === 0 ? 1 : 0);
}
