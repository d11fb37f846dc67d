import { constants } from 'node:os';

/** Of Linux's block layer and file systems; Node does not know them. */
const OTHERS: readonly (readonly [name: string, errno: number])[] = [
  ['EOPNOTSUPP', 95],
  ['EAGAIN', 11],
  ['EBADE', 52],
  ['EUCLEAN', 117],
  ['EREMOTEIO', 121],
  ['ENOMEDIUM', 123],
  ['EMEDIUMTYPE', 124],
  ['ENOKEY', 126],
  ['EOWNERDEAD', 130],
  ['EHWPOISON', 133],
];

/** The later ones win: two names of one errno. */
const NAMES = new Map([...Object.entries(constants.errno), ...OTHERS].map(([name, errno]) => [errno, name]));

/** The name of a positive errno: `ENOSPC`, or `errno 250` for one without. */
export function errnoName(errno: number): string {
  return NAMES.get(errno) ?? `errno ${errno}`;
}
