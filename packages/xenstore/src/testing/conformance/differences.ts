import type { ServerKind } from './scene.js';

/** How a server is known to behave other than the C daemon of Xen 4.17. */
export interface KnownDifference {
  /** What the case sees instead. */
  readonly observed: unknown;
  /** In a few words, for the table. */
  readonly why: string;
}

const EMPTY_PAYLOAD = 'an empty payload is not answered before the next request';

/** oxenstored of Xen 4.17, by the name of the case. */
const oxenstored: Record<string, KnownDifference> = {
  'a request without its arguments is EINVAL': {
    observed: ['no answer', 'EINVAL', 'EINVAL', 'EINVAL', 'EINVAL', 'no answer'],
    why: EMPTY_PAYLOAD,
  },
  'a request with an empty payload is answered': {
    observed: ['no answer', 'ENOSYS'],
    why: EMPTY_PAYLOAD,
  },
  'an end says T or F': {
    observed: ['EINVAL', 'no answer', 'OK'],
    why: EMPTY_PAYLOAD,
  },
  'a payload of 4096 bytes is taken': {
    observed: ['E2BIG', 6],
    why: 'a value of domain 0 has at most 2048 bytes too',
  },
  'a payload of 4097 bytes is not': {
    observed: ['E2BIG', 'no answer'],
    why: 'answers E2BIG, then nothing more',
  },
  'domains that are not there cannot be released, resumed or targeted': {
    observed: ['EINVAL', 'EINVAL', 'ENOENT'],
    why: 'EINVAL for release and resume',
  },
  'rm of the root is refused': { observed: ['OK'], why: 'done, without an effect' },
  'a listing of more than 4096 bytes': {
    observed: '7500 bytes',
    why: 'one reply, longer than the protocol allows',
  },
  'a listing in parts': { observed: 'ENOSYS', why: 'no DIRECTORY_PART' },
  'a listing in parts of a small directory comes in one': {
    observed: ['ENOSYS', 'ENOSYS'],
    why: 'no DIRECTORY_PART',
  },
  'a node cannot be given to a domain that is not there': { observed: ['OK', 'n777|'], why: 'it can' },
  'an owner may do everything but give its node away': {
    observed: ['OK', 'EACCES', 'rG|b0|'],
    why: 'EACCES, not EPERM',
  },
  'what a domain creates in a directory of domain 0 is its own': {
    observed: ['OK', 'n0|bG|'],
    why: 'it belongs to the owner of the directory',
  },
  'a domain may remove what it may write above of': {
    observed: ['EACCES', 'OK', 'OK'],
    why: 'a missing node is fine whatever the rights',
  },
  'a domain does not learn what there is where it may not read': {
    observed: ['ENOENT', 'ENOENT', 'EACCES'],
    why: 'a missing node is ENOENT whatever the rights',
  },
  'the requests of a toolstack are for domain 0': {
    observed: ['EACCES', 'EACCES', 'EACCES', 'EACCES', 'OK', 'EACCES', '/local/domain/G|'],
    why: 'CONTROL answers, with nothing',
  },
  'a domain may have 1000 nodes': { observed: [979, 'EQUOTA'], why: 'EQUOTA, not ENOSPC' },
  'a node of a domain may have 2048 bytes': { observed: ['OK', 'E2BIG'], why: 'E2BIG, not ENOSPC' },
  'a domain may have 128 watches': { observed: [101, 'EQUOTA'], why: '100 watches; EQUOTA, not E2BIG' },
  'a domain may have 10 transactions open': { observed: [11, 'EQUOTA'], why: 'EQUOTA, not ENOSPC' },
  'a node of a domain may have 5 permissions': { observed: ['OK', 'OK'], why: 'no such quota' },
  'the nodes of a domain go with it, what it was permitted stays': {
    observed: ['n0|', 'ENOENT'],
    why: 'what it was permitted is taken out',
  },
  'a write outside before the transaction read the node': {
    observed: ['0', 'OK'],
    why: 'a transaction sees the store as it was when it began',
  },
  'both only write the same node': { observed: ['OK', 'OK'], why: 'merges, the last one wins' },
  'both create a child of the same directory': { observed: ['OK', 'OK'], why: 'merges' },
  'a transaction that only read fails when the node changed': {
    observed: 'OK',
    why: 'one that changed nothing never fails',
  },
  'a listing fails the transaction when a child was added': {
    observed: 'OK',
    why: 'one that changed nothing never fails',
  },
  'a removal outside fails a transaction below it': { observed: ['OK', '1'], why: 'merges: the node is created again' },
  'a transaction that is over, or never was, is ENOENT': { observed: ['EIO', 'EIO', 'EIO'], why: 'EIO' },
  'a failed commit ends the transaction': {
    observed: ['OK', 'EIO'],
    why: 'a transaction that changed nothing never fails; EIO',
  },
  'a transaction belongs to its connection': { observed: ['EIO', 'EIO', 'OK'], why: 'EIO' },
  'the event of an own write and its reply': {
    observed: ['reply OK', 'event /case|t'],
    why: 'the reply comes first',
  },
  'a removed tree is one event above, and one for each watch inside': {
    observed: ['/case/x/no|missing', '/case/x/y/z|inside', '/case/x|above', '/case/x|at'],
    why: 'watches on missing nodes inside fire too',
  },
  'a node changed twice in a transaction': {
    observed: ['/case/x|t', '/case/x|t'],
    why: 'fires for each change',
  },
  'what was created and removed in a transaction fires nothing': {
    observed: ['/case/x|t', '/case/x|t'],
    why: 'fires for each change',
  },
};

const LONGER_PATHS = 'absolute paths may be longer';

/** The C daemon of Xen 4.20, as dom0 of the lab has it. */
const xenstored420: Record<string, KnownDifference> = {
  'a path may have 2048 bytes': { observed: ['ENOENT', 'ENOENT', 'ENOENT'], why: LONGER_PATHS },
  'a path below a home may have 2048 bytes there': { observed: ['ENOENT', 'ENOENT'], why: LONGER_PATHS },
  'a relative path may have 2048 bytes and no more': { observed: ['ENOENT', 'ENOENT'], why: LONGER_PATHS },
};

/** The OCaml daemon of Xen 4.20 answers empty payloads. */
const oxenstored420 = Object.fromEntries(Object.entries(oxenstored).filter(([, { why }]) => why !== EMPTY_PAYLOAD));

/** Known differences as data, by server and the name of the case. */
export const knownDifferences: Record<ServerKind, Record<string, KnownDifference>> = {
  xenstored: {},
  'xenstored-4.20': xenstored420,
  oxenstored,
  'oxenstored-4.20': oxenstored420,
  emulator: {},
};
