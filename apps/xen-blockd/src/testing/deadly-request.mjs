/** Preloaded into a daemon: it dies, as by a fault of its own, when a request of XEN_BLOCKD_DEADLY's bytes gets there. */
import { subscribe } from 'node:diagnostics_channel';

const { point, offset } = JSON.parse(process.env.XEN_BLOCKD_DEADLY);
subscribe(`xen-block:request:${point}`, (event) => {
  if (event.offset === offset && event.length > 0) process.kill(process.pid, 'SIGKILL');
});
