import { type Finding, good, note, textOf } from './finding.js';

/** Of each data plane, whose buffers are registered with the kernel; and for rings. */
const PLANE_BYTES = 34 * 1024 * 1024;
/** Some for each disk: its image, its rings, its journal, its helper. */
const LEAST_FILES = 4096;

/**
 * The limits of a process that is a daemon, or would be one; undefined if there is none such. `threads` as configured; `root`:
 * where /proc is.
 */
export function checkLimits(pid: number | 'self', threads: number, root = '/'): Finding[] {
  const limits = textOf(root, `proc/${pid}/limits`);
  if (limits === undefined) return [];
  const who = pid === 'self' ? 'this shell' : `the daemon, pid ${pid},`;
  const most = (name: string) => {
    const text = new RegExp(`^${name}\\s+(\\S+)`, 'm').exec(limits)?.[1];
    return text === undefined || text === 'unlimited' ? Number.POSITIVE_INFINITY : Number(text);
  };
  const wanted = PLANE_BYTES * (threads + 1);
  const [memory, files] = [most('Max locked memory'), most('Max open files')];
  return [
    memory >= wanted || hasIpcLock(root, pid)
      ? good('locked memory', `${who} has room for the buffers of ${threads + 1} threads`)
      : note(
          'locked memory',
          `${who} may lock ${memory} bytes; buffers of ${threads + 1} threads take ${wanted}, and go another way, more slowly`,
          'LimitMEMLOCK=infinity in the unit, or ulimit -l unlimited',
        ),
    files >= LEAST_FILES
      ? good('open files', `${who} may open ${files}`)
      : note(
          'open files',
          `${who} may open ${files}; each disk takes some, and the last ones would not open`,
          'LimitNOFILE=65536 in the unit, or ulimit -n 65536',
        ),
  ];
}

/** CAP_IPC_LOCK is bit 14: nothing is counted then. */
function hasIpcLock(root: string, pid: number | 'self'): boolean {
  const set = /^CapEff:\s*([0-9a-f]+)$/m.exec(textOf(root, `proc/${pid}/status`) ?? '')?.[1] ?? '0';
  return (BigInt(`0x${set}`) & (1n << 14n)) !== 0n;
}
