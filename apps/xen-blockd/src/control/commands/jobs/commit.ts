/** Layers of disks in use written into those below, as QEMU's clients ask for it. */
import { type QmpCommand, QmpError, qmpCommand } from '@xenpv/qmp';
import { Commit } from '../../../images/commit/commit.js';
import { type ControlContext, namedDisk } from '../../controlled.js';
import { helperNeeded } from './bitmaps.js';
import { beginJob, JOB_MEMBERS } from './jobs.js';

export function commitCommands(controlled: ControlContext): Record<string, QmpCommand> {
  return {
    /**
     * Writes what a qcow2 disk has in its layers from `top` on into its layer `base`: by default from the image itself on, into
     * the lowest. Layers are named by their files. A job that commits the image itself tells BLOCK_JOB_READY, and goes on until
     * block-job-complete: then the base's file has the image's name. Another layer is left out when the job has ended.
     */
    'block-commit': qmpCommand({
      members: {
        device: 'str',
        'base?': 'str',
        'base-node?': 'str',
        'top?': 'str',
        'top-node?': 'str',
        'speed?': 'size',
        ...JOB_MEMBERS,
      },
      async run({ device, speed = 0, 'job-id': id, 'auto-dismiss': dismiss, ...layers }) {
        const disk = await namedDisk(controlled, device);
        const helper = helperNeeded(disk, device, 'layers to commit');
        const { target: path = '', readOnly, shared } = disk.config ?? {};
        if (readOnly) throw QmpError.refusal(`${path} is read-only: it does not change`);
        if (shared) throw QmpError.refusal(`${path} may be written to by others (mode w!)`);
        const request = { speed, base: either(layers, 'base'), top: either(layers, 'top') };
        const choice = { 'job-id': id, 'auto-dismiss': dismiss };
        await beginJob(controlled, disk, choice, (name) =>
          Commit.start({ disk, helper, path }, { id: name, ...request }),
        );
      },
    }),
  };
}

function either(layers: Readonly<Record<string, string | undefined>>, name: 'base' | 'top'): string | undefined {
  const [file, node] = [layers[name], layers[`${name}-node`]];
  if (file !== undefined && node !== undefined) {
    throw QmpError.refusal(`'${name}-node' and '${name}' are mutually exclusive`);
  }
  return file ?? node;
}
