/*
 * What Xen's own headers say of the layouts that the package has: a line each, NAME VALUE.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <xenctrl.h>
#include <xen/io/9pfs.h>
#include <xen/io/console.h>
#include <xen/io/displif.h>
#include <xen/io/fbif.h>
#include <xen/io/kbdif.h>
#include <xen/io/pvcalls.h>
#include <xen/io/sndif.h>
#include <xen/io/xs_wire.h>

#define AT(name, type, field) printf("%s %zu\n", name, offsetof(type, field))
#define IS(name, value) printf("%s %zu\n", name, (size_t)(value))

static void bytes(void)
{
    AT("console input data", struct xencons_interface, in);
    IS("console input bytes", sizeof ((struct xencons_interface *)0)->in);
    AT("console input consumer", struct xencons_interface, in_cons);
    AT("console input producer", struct xencons_interface, in_prod);
    AT("console output data", struct xencons_interface, out);
    IS("console output bytes", sizeof ((struct xencons_interface *)0)->out);
    AT("console output consumer", struct xencons_interface, out_cons);
    AT("console output producer", struct xencons_interface, out_prod);
    AT("xenstore requests data", struct xenstore_domain_interface, req);
    IS("xenstore requests bytes", XENSTORE_RING_SIZE);
    AT("xenstore requests consumer", struct xenstore_domain_interface, req_cons);
    AT("xenstore requests producer", struct xenstore_domain_interface, req_prod);
    AT("xenstore responses data", struct xenstore_domain_interface, rsp);
    IS("xenstore responses bytes", XENSTORE_RING_SIZE);
    AT("xenstore responses consumer", struct xenstore_domain_interface, rsp_cons);
    AT("xenstore responses producer", struct xenstore_domain_interface, rsp_prod);
    AT("xenstore serverFeatures", struct xenstore_domain_interface, server_features);
    AT("xenstore error", struct xenstore_domain_interface, error);
}

#define FLEX(name, type)                       \
    AT(name " input consumer", type, in_cons);   \
    AT(name " input producer", type, in_prod);   \
    AT(name " output consumer", type, out_cons); \
    AT(name " output producer", type, out_prod); \
    AT(name " order", type, ring_order);         \
    AT(name " refs", type, ref)

static void flex(void)
{
    FLEX("9pfs", struct xen_9pfs_data_intf);
    FLEX("pvcalls", struct pvcalls_data_intf);
    AT("pvcalls input error", struct pvcalls_data_intf, in_error);
    AT("pvcalls output error", struct pvcalls_data_intf, out_error);
    IS("flex bytes of order 3", XEN_FLEX_RING_SIZE(3));
}

#define EVENTS(name, offset, size, count, type, consumer, producer_) \
    IS(name " events", offset);                                      \
    IS(name " eventBytes", size);                                    \
    IS(name " length", count);                                       \
    AT(name " consumer", type, consumer);                            \
    AT(name " producer", type, producer_)

static void events(void)
{
    EVENTS("keyboard input", XENKBD_IN_RING_OFFS, XENKBD_IN_EVENT_SIZE, XENKBD_IN_RING_LEN, struct xenkbd_page,
           in_cons, in_prod);
    EVENTS("keyboard output", XENKBD_OUT_RING_OFFS, XENKBD_OUT_EVENT_SIZE, XENKBD_OUT_RING_LEN, struct xenkbd_page,
           out_cons, out_prod);
    EVENTS("framebuffer input", XENFB_IN_RING_OFFS, XENFB_IN_EVENT_SIZE, XENFB_IN_RING_LEN, struct xenfb_page,
           in_cons, in_prod);
    EVENTS("framebuffer output", XENFB_OUT_RING_OFFS, XENFB_OUT_EVENT_SIZE, XENFB_OUT_RING_LEN, struct xenfb_page,
           out_cons, out_prod);
    EVENTS("display input", XENDISPL_IN_RING_OFFS, sizeof(struct xendispl_evt), XENDISPL_IN_RING_LEN,
           struct xendispl_event_page, in_cons, in_prod);
    EVENTS("sound input", XENSND_IN_RING_OFFS, sizeof(struct xensnd_evt), XENSND_IN_RING_LEN,
           struct xensnd_event_page, in_cons, in_prod);
}

int main(void)
{
    bytes();
    flex();
    events();
    return 0;
}
