import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const page = new URL('../../../docs/protocol.md', import.meta.url);
const links = [...readFileSync(page, 'utf8').matchAll(/\[([^\]]+)\]\((\.\.\/[^)]+)\)/g)];

it('docs/protocol.md names tests that are there', () => {
  expect(links.length).toBeGreaterThan(50);
  const missing = links.filter(([, title, path]) => {
    const file = fileURLToPath(new URL(path, page));
    return !existsSync(file) || !readFileSync(file, 'utf8').includes(title);
  });
  expect(missing.map(([link]) => link)).toEqual([]);
});
