/** Adds up skipped tests by what their titles say that they need (`needs()` of test-support). */
import { DEBIAN, installCommand, isKnown, newest } from './debian.mjs';

const PACKAGES = { ...DEBIAN.tests, ...DEBIAN.toBuild, ...DEBIAN.networkStorage };

/** Lines for the end of `npm test`, from the results of vitest's JSON reporter. A test counts with each of its needs. */
export function skippedByNeed(testResults) {
  const byPackage = new Map();
  const byMachine = new Map();
  for (const needs of skippedTests(testResults).map(needsOf)) {
    const entries = needs.map((need) => PACKAGES[need]?.package);
    for (const name of new Set(entries.filter(Boolean).map(newest))) add(byPackage, name);
    for (const need of needs.filter((_, index) => !entries[index])) add(byMachine, need);
  }
  const known = [...byPackage.keys()].filter(isKnown).sort();
  const lines = [...mostFirst(byPackage), ...mostFirst(byMachine)].map(([need, count]) => {
    const note = byPackage.has(need) && !known.includes(need) ? ', which this release of Debian does not have' : '';
    return `${count} ${count === 1 ? 'needs' : 'need'} ${need}${note}`;
  });
  return known.length === 0 ? lines : [...lines, `npm test -- --install, or: ${installCommand(known)}`];
}

function skippedTests(testResults) {
  return testResults
    .flatMap(({ assertionResults }) => assertionResults)
    .filter(({ status }) => !['passed', 'failed'].includes(status));
}

function needsOf({ ancestorTitles, title }) {
  const lists = [...ancestorTitles, title].flatMap((text) => [...text.matchAll(/\(needs ([^)]*)\)/g)]);
  const needs = lists.flatMap(([, list]) => list.split(', '));
  return needs.length > 0 ? [...new Set(needs)] : ['something that its title does not say'];
}

function add(counts, key) {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

function mostFirst(counts) {
  return [...counts].sort(([, a], [, b]) => b - a);
}
