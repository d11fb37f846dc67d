/** What dom0 tells the host: one JSON object a line on standard output. */
import { writeSync } from 'node:fs';

export function report(object) {
  const line = Buffer.from(`${JSON.stringify(object)}\n`);
  for (let at = 0; at < line.length; ) {
    try {
      at += writeSync(1, line, at);
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
    }
  }
}

export const log = (text) => report({ type: 'log', text });
