/** So many a toolstack starts at once when a host boots its guests. */
const AT_ONCE = 8;

/** Does `work` for each item, several at once. Rejects with the first error. */
export async function inTurns<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> {
  const left = items.values();
  const worker = async () => {
    for (const item of left) await work(item);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}
