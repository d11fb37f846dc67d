/** DOMID_FIRST_RESERVED of xen.h: numbers from here on name no domain. */
export const FIRST_RESERVED_DOMID = 0x7ff0;
/** DOMID_SELF of xen.h. */
export const DOMID_SELF = 0x7ff0;
