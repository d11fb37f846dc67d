import { readFileSync } from 'node:fs';

/** What a thread had, and waited for, in nanoseconds. */
interface ProcessorTime {
  readonly ran: number;
  readonly waited: number;
}

/** No machine is so busy that nothing is measured any more. */
const LEAST = 0.05;

function processorTime(): ProcessorTime {
  try {
    const [ran, waited] = readFileSync('/proc/thread-self/schedstat', 'latin1').split(' ').map(Number);
    return { ran, waited };
  } catch {
    // A kernel without these figures.
    return { ran: 0, waited: 0 };
  }
}

/**
 * Begins to measure; the result says which part of the time that this thread wanted the processor it has had it since: 1 on a
 * machine that nobody else uses, and never less than 0.05. So what takes long can be told from what has to wait.
 */
export function processorShare(): () => number {
  const before = processorTime();
  return () => {
    const { ran, waited } = processorTime();
    const wanted = ran - before.ran + (waited - before.waited);
    return wanted > 0 ? Math.max(LEAST, (ran - before.ran) / wanted) : 1;
  };
}
