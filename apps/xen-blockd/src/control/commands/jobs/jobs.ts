/** Block jobs, which storage helpers do: what QEMU's clients start, watch and cancel them with. */
import { type QmpCommand, QmpError, type QmpMembers, qmpCommand } from '@xenpv/qmp';
import type { BlockDevice } from '@xenpv/xen-block';
import { deviceName } from '@xenpv/xenbus';
import { jobNews } from '../../../images/image-opener.js';
import { helperOf } from '../../../images/storage-daemon/format-image.js';
import { type BlockJob, jobsIn, startStream, TRIED_JOB } from '../../../images/storage-daemon/monitor/jobs.js';
import type { EndingJob, OwnedJob } from '../../../images/storage-daemon/monitor/owned-jobs.js';
import type { StorageDaemon } from '../../../images/storage-daemon/storage-daemon.js';
import { type ControlContext, disksOf, namedDisk } from '../../controlled.js';
import { isQemuId } from '../../device-ids.js';
import { jobInfo } from '../../known-jobs.js';

/** Commands that a job's helper carries out, by the job's id, which is `device`. */
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

const JOB_INFO = {
  ...{ id: 'str', type: 'str', status: 'str', 'current-progress': 'int', 'total-progress': 'int', 'error?': 'str' },
} as const satisfies QmpMembers;

export function jobCommands(controlled: ControlContext): Record<string, QmpCommand> {
  const passedOn = Object.entries(ON_JOBS).map(([name, members]) => [
    name,
    qmpCommand({
      members: { device: 'str', ...members },
      async run(args) {
        await onJob(await namedJob(controlled, args.device), name, args);
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
    /** The same, as JobInfo, and those that have ended and wait for job-dismiss. */
    'query-jobs': qmpCommand({
      members: {},
      returns: { array: { object: JOB_INFO } },
      run: async () => [...(await allJobs(controlled)).map(jobInfo), ...controlled.jobs.allConcluded],
    }),
    /** Ends a job by force; what it has done stays, or is removed if it is a copy. */
    'job-cancel': qmpCommand({
      members: { id: 'str' },
      run: ({ id }) => onNamed(controlled, id, 'block-job-cancel', { device: id, force: true }),
    }),
    /** Has a job rest. */
    'job-pause': qmpCommand({
      members: { id: 'str' },
      run: ({ id }) => onNamed(controlled, id, 'block-job-pause', { device: id }),
    }),
    /** Has a job that rests go on. */
    'job-resume': qmpCommand({
      members: { id: 'str' },
      run: ({ id }) => onNamed(controlled, id, 'block-job-resume', { device: id }),
    }),
    /** Forgets a job that has ended, and was begun with `auto-dismiss` false. */
    'job-dismiss': qmpCommand({ members: { id: 'str' }, run: ({ id }) => dismiss(controlled, id) }),
    /** The same. */
    'block-job-dismiss': qmpCommand({ members: { id: 'str' }, run: ({ id }) => dismiss(controlled, id) }),
    /** The disk goes on with what a job that is ready has made. */
    'block-job-complete': qmpCommand({
      members: { device: 'str' },
      run: ({ device }) => complete(controlled, device),
    }),
    /** The same. */
    'job-complete': qmpCommand({ members: { id: 'str' }, run: ({ id }) => complete(controlled, id) }),
    /** A qcow2 image gets all that it has of its backing files, and needs them no more when the job has ended. */
    'block-stream': qmpCommand({
      members: { device: 'str', 'speed?': 'size', ...JOB_MEMBERS },
      async run({ device: name, speed = 0, ...choice }) {
        const disk = await namedDisk(controlled, name);
        const helper = helperOf(disk.image);
        if (!helper) throw QmpError.refusal(`${name} has no backing file: its image is raw, or on a server`);
        await beginJob(controlled, disk, choice, async (id) => startStream(await helper.monitor(), { id, speed }));
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
  return [...known, ...controlled.jobs.besides(known)];
}

/** Error: Job not found, as QEMU has it for commands on jobs of any kind. */
async function onNamed(controlled: ControlContext, id: string, command: string, args: object): Promise<void> {
  const found = await namedJob(controlled, id).catch(() => undefined);
  if (!found) throw notFound(controlled, id, command);
  await onJob(found, command, args);
}

function notFound({ jobs }: ControlContext, id: string, command: string): QmpError {
  return jobs.concluded(id)
    ? cannot(id, 'concluded', command.replace('block-job-', ''))
    : QmpError.refusal('Job not found');
}

function cannot(id: string, status: string, verb: string): QmpError {
  return QmpError.refusal(`Job '${id}' in state '${status}' cannot accept command verb '${verb}'`);
}

async function onJob({ helper, owner }: DiskJob, command: string, args: object): Promise<void> {
  if (command === 'block-job-cancel') await owner?.hangUp?.();
  await (await helper.monitor()).execute(command, args);
  const isForced = !owner?.isReady || (args as { force?: boolean }).force;
  if (command === 'block-job-cancel' && isForced) owner?.cancel?.();
}

async function dismiss(controlled: ControlContext, id: string): Promise<void> {
  const running = (await allJobs(controlled)).find(({ device }) => device === id);
  if (running) throw cannot(id, running.status, 'dismiss');
  if (!controlled.jobs.concluded(id)) throw QmpError.refusal('Job not found');
  controlled.jobs.forget(id);
  jobNews.emit('job', { kind: 'job-status', id, status: 'null' });
}

async function complete(controlled: ControlContext, id: string): Promise<void> {
  const { jobs } = controlled;
  const { job, owner } = await namedJob(controlled, id);
  if (!owner?.complete) throw QmpError.refusal(`The active block job '${id}' cannot be completed`);
  jobs.completing(job);
  await owner.complete().catch((error) => {
    jobs.notCompleting(id);
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

async function namedJob(controlled: ControlContext, id: string): Promise<DiskJob> {
  const found = (await jobsOf(disksOf(controlled))).find(({ job }) => job.device === id);
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

/** What commands that begin a job take besides. */
export const JOB_MEMBERS = {
  'job-id?': 'str',
  /** False: the job stays in query-jobs when it has ended, until job-dismiss. */
  'auto-dismiss?': 'bool',
} as const satisfies QmpMembers;

export interface JobChoice {
  readonly 'job-id'?: string | undefined;
  readonly 'auto-dismiss'?: boolean | undefined;
}

/**
 * Begins a job of a disk, by the id that is chosen for it, or the disk's name. Errors: QmpError, the id is none,
 * another job has it, or one of the disk runs or is being begun; what `start` rejects with.
 */
export async function beginJob<T>(
  controlled: ControlContext,
  disk: BlockDevice,
  { 'job-id': id = deviceName(disk.address), 'auto-dismiss': dismissed = true }: JobChoice,
  start: (id: string) => Promise<T>,
): Promise<T> {
  const { jobs } = controlled;
  // Before anything is begun: what is only tried has another id.
  if (!isQemuId(id) || id === TRIED_JOB) throw QmpError.refusal(`Invalid job ID '${id}'`);
  // No helper knows it before it has begun, and others ask meanwhile.
  using _beginning = jobs.beginning(id, deviceName(disk.address));
  const isKnown = (await allJobs(controlled)).some(({ device }) => device === id) || jobs.concluded(id);
  if (isKnown) throw QmpError.refusal(`Job ID '${id}' already in use`);
  await refuseDuringJobs(disk);
  if (!dismissed) jobs.keep(id);
  try {
    return await start(id);
  } catch (error) {
    jobs.forget(id);
    throw error;
  }
}
