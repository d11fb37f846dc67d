/**
 * The lines that `after` has and `before` has not, with a +, and the other way round, with a -, as they come. For texts of
 * some hundred lines whose differences are few; a line that only moved is not one.
 */
export function differences(before, after) {
  if (before === after) return [];
  const [gone, come] = [counted(before), counted(after)];
  const lines = [
    ...before.split('\n').flatMap((line) => (take(come, line) ? [] : [`- ${line}`])),
    ...after.split('\n').flatMap((line) => (take(gone, line) ? [] : [`+ ${line}`])),
  ];
  return lines.length > 0 ? lines : ['the order of the lines differs'];
}

function counted(text) {
  const counts = new Map();
  for (const line of text.split('\n')) counts.set(line, (counts.get(line) ?? 0) + 1);
  return counts;
}

function take(counts, line) {
  const left = counts.get(line) ?? 0;
  counts.set(line, left - 1);
  return left > 0;
}
