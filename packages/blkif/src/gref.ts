/**
 * A grant reference: it names a page that another domain granted. Any number can be given for one, but no port or domid of
 * @xenpv/xen-sys: this is its `Gref`, written once more, since this package depends on nothing.
 */
export type Gref = number & { readonly '~kind'?: 'gref' };
