/** Block jobs, which storage helpers do: what QEMU's clients start, watch and cancel them with. */
import { type QmpCommand, QmpError, qmpCommand } from '@xenpv/qmp';
import type { BlockDevice } from '@xenpv/xen-block';
import { deviceName } from '@xenpv/xenbus';
import { helperOf } from '../../../images/storage-daemon/format-image.js';
import { type BlockJob, jobsIn, startStream } from '../../../images/storage-daemon/monitor/jobs.js';
import type { EndingJob, OwnedJob } from '../../../images/storage-daemon/monitor/owned-jobs.js';
import type { StorageDaemon } from '../../../images/storage-daemon/storage-daemon.js';
import { type ControlContext, disksOf, namedDisk } from '../../controlled.js';

/** Commands that a job's helper carries out, by the job's id. */
const ON_JOBS = {
  /** Ends a job; what it has done stays. */
  'block-job-cancel': { 'force?': 'bool' },
  /** Has a job rest. */
  'block-job-pause': {},
  /** Has a job that rests go on. */
  'block-job-resume': {},
  /** Bytes a second that a job may move; 0 is no limit. */
  'block-job-set-speed': { speed: 'size' },
} as const;

export function jobCommands(controlled: ControlContext): Record<string, QmpCommand> {
  const passedOn = Object.entries(ON_JOBS).map(([name, members]) => [
    name,
    qmpCommand({
      members: { device: 'str', ...members },
      async run(args) {
        const { helper, owner } = await namedJob(disksOf(controlled), args.device);
        await (await helper.monitor()).execute(name, args);
        if (name === 'block-job-cancel' && ((args as { force?: boolean }).force || !owner?.isReady)) owner?.cancel?.();
      },
    }),
  ]);
  return {
    ...Object.fromEntries(passedOn),
    /** Jobs that run, as BlockJobInfo. */
    'query-block-jobs': qmpCommand({
      members: {},
      returns: { array: 'any' },
      run: () => allJobs(controlled),
    }),
    /** The same, as JobInfo. */
    'query-jobs': qmpCommand({
      members: {},
      returns: { array: 'any' },
      run: async () =>
        (await allJobs(controlled)).map(({ device: id, type, status, offset, len }) => ({
          ...{ id, type, status, 'current-progress': offset, 'total-progress': len },
        })),
    }),
    /** The disk goes on with what a job that is ready has made. */
    'block-job-complete': qmpCommand({
      members: { device: 'str' },
      run: ({ device }) => complete(controlled, device),
    }),
    /** The same. */
    'job-complete': qmpCommand({ members: { id: 'str' }, run: ({ id }) => complete(controlled, id) }),
    /** A qcow2 image gets all that it has of its backing files, and needs them no more when the job has ended. */
    'block-stream': qmpCommand({
      members: { device: 'str', 'job-id?': 'str', 'speed?': 'size' },
      async run({ device: name, 'job-id': id, speed = 0 }) {
        const disk = await namedDisk(controlled, name);
        const helper = helperOf(disk.image);
        if (!helper) throw QmpError.refusal(`${name} has no backing file: its image is raw, or on a server`);
        await startStream(await helper.monitor(), { id: id ?? deviceName(disk.address), speed });
      },
    }),
  };
}

interface DiskJob {
  readonly job: BlockJob;
  readonly helper: StorageDaemon;
  /** What this process does at its end. */
  readonly owner: OwnedJob | undefined;
}

async function allJobs(controlled: ControlContext): Promise<readonly BlockJob[]> {
  const known = (await jobsOf(disksOf(controlled))).map(({ job }) => job);
  return [...known, ...controlled.completing.besides(known)];
}

async function complete({ completing, ...controlled }: ControlContext, id: string): Promise<void> {
  const { job, owner } = await namedJob(disksOf(controlled), id);
  if (!owner?.complete) throw QmpError.refusal(`The active block job '${id}' cannot be completed`);
  completing.add(job);
  await owner.complete().catch((error) => {
    completing.remove(id);
    throw error;
  });
}

/** Of all disks; a helper that is being started has none but those whose ends are seen to. */
async function jobsOf(disks: readonly BlockDevice[]): Promise<DiskJob[]> {
  const found = await Promise.all(
    disks.map(async ({ image }) => {
      const helper = helperOf(image);
      if (!helper) return [];
      const known = await helper
        .monitor()
        .then(jobsIn, () => [])
        .catch(() => []);
      const { ending } = helper.jobs;
      const left = ending && !known.some(({ device }) => device === ending.id) ? [endingJob(ending)] : [];
      return [...known, ...left].map((job) => ({ job, helper, owner: helper.jobs.get(job.device) }));
    }),
  );
  return found.flat();
}

/** One that its helper knows no more, whose target is being let go of. */
function endingJob({ id, ...figures }: EndingJob): BlockJob {
  return { device: id, ...figures, status: 'concluded' };
}

async function namedJob(disks: readonly BlockDevice[], id: string): Promise<DiskJob> {
  const found = (await jobsOf(disks)).find(({ job }) => job.device === id);
  if (!found) throw QmpError.refusal(`Block job '${id}' not found`, 'DeviceNotActive');
  return found;
}

/** Error: a job of the disk runs, which ends when its helper does. */
export async function refuseDuringJobs(disk: BlockDevice): Promise<void> {
  const [running] = await jobsOf([disk]);
  if (!running) return;
  const { device, type } = running.job;
  throw QmpError.refusal(`block job ${device} (${type}) runs: wait for it, or block-job-cancel it`);
}

/** Error: another job has the id, of whichever disk. */
export async function refuseKnownJob(controlled: ControlContext, id: string): Promise<void> {
  const isKnown = (await jobsOf(disksOf(controlled))).some(({ job }) => job.device === id);
  if (isKnown) throw QmpError.refusal(`Job ID '${id}' already in use`);
}
