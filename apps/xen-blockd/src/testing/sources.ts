import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The paths of all files in a folder and in its folders. */
export function filesBelow(folder: URL): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? filesBelow(new URL(`${entry.name}/`, folder)) : [fileURLToPath(new URL(entry.name, folder))],
  );
}
