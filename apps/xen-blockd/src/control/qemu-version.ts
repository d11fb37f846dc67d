import type { QmpVersion } from '@xenpv/qmp';
import { packageVersion } from '../package-root.js';

/** The release of QEMU whose commands ours are, which a client of QEMU's decides by; every libxl knows it. */
const QEMU = { major: 7, minor: 2, micro: 0 };

/** What our QMP servers say that they are. `remark` follows our own version. */
export function qmpVersion(remark = ''): QmpVersion {
  return { qemu: QEMU, package: `xen-blockd ${packageVersion()}${remark}` };
}
