import { fileURLToPath } from 'node:url';
import type { RawQueue } from '@xenpv/blkfront/testing';
import { BlkifOp, RequestWriter } from '@xenpv/blkif';
import { expect } from 'vitest';
import { packageRoot } from '../package-root.js';
import { BlockdProcess } from './process.js';

const PRELOAD = fileURLToPath(new URL('src/testing/deadly-request.mjs', packageRoot));

/** Puts a write of each of these pages, filled with the page's number, and pushes them together. */
export function writePages(raw: RawQueue, pages: readonly number[]): Promise<{ status: number }>[] {
  const answers = pages.map((page) => {
    const data = raw.page();
    data.bytes.fill(page);
    const words = new Int32Array(raw.abi.slotWords);
    const request = new RequestWriter(words, raw.abi);
    request.readWrite(BlkifOp.write, 1, page, 0, page * 8);
    request.segment(0, data.gref, 0, 7);
    return raw.put(words);
  });
  raw.push();
  return answers;
}

/** A daemon of the host in a folder that dies of the request at `offset`; resolves when it is dead. */
export async function diesOf(folder: string, deadly: { point: 'queued' | 'completed'; offset: number }): Promise<void> {
  const args = ['run', '--emulator', folder, '--log-format', 'json'];
  const env = { XEN_BLOCKD_DEADLY: JSON.stringify(deadly) };
  const { code } = await new BlockdProcess(args, env, { preload: ['--import', PRELOAD] }).ended;
  expect(code).toBe(null);
}
