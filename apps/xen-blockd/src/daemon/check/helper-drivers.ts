import { IMAGE_FORMATS } from '@xenpv/xen-block';
import { driverOf } from '../../images/storage-daemon/arguments.js';
import { findTool, runTool } from '../../tools.js';
import { type Finding, good, note } from './finding.js';

const NAME = 'image formats';
const INSTALL = 'apt install qemu-system-common (or what brings qemu-storage-daemon, of QEMU 6.0 or later)';

/** Which formats the storage helper of this machine has drivers for. */
export async function checkHelperDrivers(program = findTool('qemu-storage-daemon')): Promise<Finding> {
  if (program === undefined) return note(NAME, 'raw only: there is no qemu-storage-daemon', INSTALL);
  try {
    const has = await Promise.all(IMAGE_FORMATS.map((format) => hasDriver(program, driverOf(format))));
    const lacking = IMAGE_FORMATS.filter((_, i) => !has[i]);
    if (lacking.length === 0) return good(NAME, `raw, ${IMAGE_FORMATS.join(', ')}`);
    const detail = `${program} has no driver for ${lacking.join(', ')}: such images are refused`;
    return note(NAME, detail, `a build of QEMU that has them; Debian: ${INSTALL}, and qemu-block-extra`);
  } catch (error) {
    return note(NAME, `raw only: ${program} does not start: ${(error as Error).message}`, INSTALL);
  }
}

/** It refuses a driver that it does not have; one that it has lacks the node below it, which is no driver's fault. */
async function hasDriver(program: string, driver: string): Promise<boolean> {
  const { code, stderr } = await runTool(program, ['--blockdev', `driver=${driver},node-name=check,file=none`]);
  if (/driver/i.test(stderr) && !/node-name='none'/.test(stderr)) return false;
  if (/node-name='none'/.test(stderr)) return true;
  throw new Error(stderr.trim().split('\n')[0] || `it ended with ${code}`);
}
