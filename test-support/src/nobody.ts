const NOBODY = 65534;

/** Runs `work` as a user whom permissions bind: nobody, where this process is root. Not for threads. */
export async function withoutRoot(work: () => Promise<void>): Promise<void> {
  if (process.getuid?.() !== 0) return work();
  process.seteuid!(NOBODY);
  try {
    await work();
  } finally {
    process.seteuid!(0);
  }
}
