/** What the run is: the options of the program on the host. */
import { readFileSync } from 'node:fs';

export const run = JSON.parse(readFileSync('/lab/run.json', 'utf8'));
