import { execFileSync } from 'node:child_process';

const losetup = (...args: string[]) => execFileSync('losetup', args, { encoding: 'utf8', stdio: 'pipe' }).trim();

/** What `needs()` is told of a test that makes block devices of files. */
export const loopDevices = {
  name: 'loop devices',
  met: () => {
    try {
      losetup('--detach', losetup('--find', '--show', process.execPath, '--read-only'));
      return true;
    } catch {
      return false;
    }
  },
};
