/** DOMID_FIRST_RESERVED of xen.h: the numbers of domains are below. */
export const DOMID_FIRST_RESERVED = 0x7ff0;

/** DOMID_SELF: the calling domain, by the first of the reserved numbers. */
export const DOMID_SELF = 0x7ff0;
