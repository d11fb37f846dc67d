export { DOMID_FIRST_RESERVED as FIRST_RESERVED_DOMID, DOMID_SELF } from '@xenpv/xen-sys';
