import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import debian from '../debian-packages.json' with { type: 'json' };
import { find, needs } from './index.js';

const never = { name: 'a blue moon', met: () => false };
const always = { name: 'time', met: () => true };
let ran = 0;

describe('what is missing', () => {
  it('is in the title, in the order of the needs', () => {
    const both = needs(never, always, { name: 'luck', met: () => false });
    expect(both.missing).toEqual(['a blue moon', 'luck']);
    expect(both.title).toBe(' (needs a blue moon, luck)');
  });

  it('leaves no trace when nothing is', () => {
    expect(needs(always)).toMatchObject({ missing: [], title: '' });
  });
});

needs(always).describe('with its needs met', () => {
  needs(always).it('a test runs', { timeout: 5000 }, () => {
    ran++;
  });
  needs(always).test.each([1, 2])('a test of %s runs', () => {
    ran++;
  });
  it('all of them', () => expect(ran).toBe(3));
});

it('each program and file is found where it is, or not at all', () => {
  for (const name of Object.keys(debian.tests) as (keyof typeof debian.tests)[]) {
    const path = find(name);
    expect(path === undefined || existsSync(path), name).toBe(true);
  }
});

it('a package is told for each program and file', () => {
  const entries = Object.values({ ...debian.tests, ...debian.toBuild, ...debian.native, ...debian.lab });
  for (const entry of entries) expect(entry.package).toMatch(/^[a-z0-9][a-z0-9+.-]*\*?$/);
});
