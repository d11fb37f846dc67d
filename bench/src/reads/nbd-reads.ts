import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Random 4 KiB reads a second that fio gets at depth 32 from the export `disk` on a Unix socket. */
export async function readOverNbd(socket: string, seconds: number): Promise<number> {
  const job = ['--rw=randread', '--bs=4k', '--iodepth=32', '--readonly', '--time_based', `--runtime=${seconds}`];
  const uri = `--uri=nbd+unix:///disk?socket=${socket}`;
  const args = ['--name=reads', '--ioengine=nbd', uri, ...job, '--output-format=json', '--output=fio.json'];
  const cwd = dirname(socket);
  await run('fio', args, { cwd });
  const report = await readFile(join(cwd, 'fio.json'), 'utf8');
  return JSON.parse(report).jobs[0].read.iops;
}
