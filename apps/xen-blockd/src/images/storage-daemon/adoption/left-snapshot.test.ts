import { existsSync, linkSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { noteSnapshot, removeLeftSnapshot } from './left-snapshot.js';

let folder: string;
let helper: string;
let files: { image: string; layer: string; snapshot: string };

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'left-snapshot-'));
  helper = join(folder, 'qdisk-1-51712-01234567');
  const path = (name: string) => join(folder, name);
  files = { image: path('disk'), layer: path('.disk.new-layer'), snapshot: path('monday') };
  writeFileSync(files.image, 'the image');
});
afterEach(() => rmSync(folder, { recursive: true }));

const STEPS: readonly (() => void)[] = [
  () => noteSnapshot(helper, files),
  () => writeFileSync(files.layer, 'the layer'),
  () => linkSync(files.image, files.snapshot),
  () => renameSync(files.layer, files.image),
  () => noteSnapshot(helper, undefined),
];

it.each(STEPS.map((_, i) => i))('a snapshot that ends after %i steps was made, or nothing is left of it', (count) => {
  for (const step of STEPS.slice(0, count)) step();
  removeLeftSnapshot(helper);
  removeLeftSnapshot(helper);
  const isMade = count > 3;
  expect(readFileSync(files.image, 'utf8')).toBe(isMade ? 'the layer' : 'the image');
  expect(existsSync(files.layer)).toBe(false);
  expect(existsSync(files.snapshot) && readFileSync(files.snapshot, 'utf8')).toBe(isMade && 'the image');
  expect(existsSync(`${helper}.snapshot`)).toBe(false);
});

it('a file of somebody else that has the name of the snapshot stays', () => {
  for (const step of STEPS.slice(0, 2)) step();
  writeFileSync(files.snapshot, 'of somebody else');
  removeLeftSnapshot(helper);
  expect(readFileSync(files.snapshot, 'utf8')).toBe('of somebody else');
});
