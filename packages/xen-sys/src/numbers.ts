/**
 * Numbers of one kind. Any number can be given where one is asked for, so that nobody has to convert; a number that is
 * known to be of another kind cannot. The mark is of types only: at run time there is a number and nothing else.
 */
type NumberOf<Kind extends string> = number & { readonly '~kind'?: Kind };

/** The number of a domain: 0 to 0x7fef, or one of the reserved ones above. */
export type Domid = NumberOf<'domid'>;

/** A grant reference: it names a page that another domain granted. 32 bits. */
export type Gref = NumberOf<'gref'>;

/** An event-channel port of one domain. 32 bits. */
export type EvtchnPort = NumberOf<'evtchn port'>;

/** DOMID_FIRST_RESERVED of xen.h: the numbers of domains are below. */
export const DOMID_FIRST_RESERVED: Domid = 0x7ff0;

/** DOMID_SELF: the calling domain, by the first of the reserved numbers. */
export const DOMID_SELF: Domid = 0x7ff0;

const LARGEST = 0xffffffff;

/** The number of a domain, from decimal text or a number of unknown origin; undefined if it is none. */
export function parseDomid(value: string | number): Domid | undefined {
  return wholeNumber(value, DOMID_FIRST_RESERVED - 1);
}

/** A grant reference, from decimal text or a number of unknown origin; undefined if it is none. */
export function parseGref(value: string | number): Gref | undefined {
  return wholeNumber(value, LARGEST);
}

/** An event-channel port, from decimal text or a number of unknown origin; undefined if it is none. */
export function parseEvtchnPort(value: string | number): EvtchnPort | undefined {
  return wholeNumber(value, LARGEST);
}

function wholeNumber(value: string | number, largest: number): number | undefined {
  if (typeof value === 'string' && !/^(?:0|[1-9][0-9]{0,9})$/.test(value)) return undefined;
  const number = Number(value);
  return Number.isInteger(number) && number >= 0 && number <= largest ? number : undefined;
}
