/** What the libraries tell, as events of QMP. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { QmpMembers } from '@xenpv/qmp';
import type {
  DeviceConnectedEvent,
  DeviceResizedEvent,
  DeviceResumedEvent,
  DeviceStoppedEvent,
} from '@xenpv/xen-block';
import {
  type DeviceAddress,
  type DeviceEvent,
  type DeviceHeldEvent,
  type DeviceStateEvent,
  deviceName,
  type HoldEndedEvent,
  XenbusState,
} from '@xenpv/xenbus';
import { type BlockJobEvent, jobNews } from '../images/image-opener.js';

const JOB = { type: 'str', len: 'int', offset: 'int', speed: 'int' } as const satisfies QmpMembers;
const DEVICE = { device: 'str' } as const satisfies QmpMembers;

/** QEMU's, and our own with `X_` in front. */
export const EVENTS = {
  /** The storage has failed a request, and the disk waits for `x-resume`. */
  BLOCK_IO_ERROR: {
    device: 'str',
    'node-name': 'str',
    operation: { enum: ['read', 'write'] },
    action: { enum: ['stop'] },
    nospace: 'bool',
    reason: 'str',
  },
  /** A block job has copied all, and goes on with what is written until it is completed or cancelled; `device` is its id. */
  BLOCK_JOB_READY: { device: 'str', ...JOB },
  /** A block job is over; `device` is its id. */
  BLOCK_JOB_COMPLETED: { device: 'str', ...JOB, 'error?': 'str' },
  /** Somebody has cancelled a block job before it was done. */
  BLOCK_JOB_CANCELLED: { device: 'str', ...JOB },
  /** A job has got so far: `created`, `running`, `paused`, `ready`, `standby`, `waiting`, `pending`, `aborting`, `concluded`, `null`. */
  JOB_STATUS_CHANGE: { id: 'str', status: 'str' },
  /** An export of a disk is gone, whatever has ended it. */
  BLOCK_EXPORT_DELETED: { id: 'str' },
  /** A disk is gone for good. */
  DEVICE_DELETED: { device: 'str', path: 'str' },
  /** The guest does not let go of a disk that `device_del` has asked it for. */
  DEVICE_UNPLUG_GUEST_ERROR: { device: 'str', path: 'str' },
  /** A disk has appeared. */
  X_DISK_ADDED: DEVICE,
  /** A guest uses a disk; with `adopted` an earlier process served this very connection. */
  X_DISK_CONNECTED: { device: 'str', abi: 'str', queues: 'int', adopted: 'bool', recovered: 'int' },
  /** A disk is closed, and may come back. */
  X_DISK_CLOSED: DEVICE,
  /** A disk that is connected is not served now, see `reason`; its guest waits. */
  X_DISK_HELD: { device: 'str', reason: 'str' },
  /** It is served again, or has ended. */
  X_DISK_HELD_NO_MORE: { device: 'str', by: 'str' },
  /** A disk that its storage had stopped goes on. */
  X_DISK_RESUMED: { device: 'str', by: 'str' },
  /** A disk has another size, in bytes. */
  X_DISK_RESIZED: { device: 'str', from: 'size', to: 'size' },
} as const satisfies Record<string, QmpMembers>;

/** `device` is the disk's name, or the id of a job; its own in JOB_STATUS_CHANGE is `id`. */
type Tell = (event: keyof typeof EVENTS, data: { readonly device: string } & Readonly<Record<string, unknown>>) => void;

const of = (address: DeviceAddress) => ({ device: deviceName(address) });

/** By channel. */
const TOLD: Record<string, (event: never, tell: Tell) => void> = {
  'xenbus:device:added': ({ address }: DeviceEvent, tell) => tell('X_DISK_ADDED', of(address)),
  'xenbus:device:removed': ({ address }: DeviceEvent, tell) =>
    tell('DEVICE_DELETED', { ...of(address), path: deviceName(address) }),
  'xenbus:device:state': ({ address, to }: DeviceStateEvent, tell) => {
    if (to === XenbusState.closed) tell('X_DISK_CLOSED', of(address));
  },
  'xenbus:device:held': ({ address, reason }: DeviceHeldEvent, tell) => tell('X_DISK_HELD', { ...of(address), reason }),
  'xenbus:device:hold-ended': ({ address, by }: HoldEndedEvent, tell) =>
    tell('X_DISK_HELD_NO_MORE', { ...of(address), by }),
  'xen-block:device:connected': ({ address, abi, queues, adopted, recovered }: DeviceConnectedEvent, tell) =>
    tell('X_DISK_CONNECTED', { ...of(address), abi, queues, adopted, recovered }),
  'xen-block:device:stopped': ({ address, stop: { operation, errno } }: DeviceStoppedEvent, tell) =>
    tell('BLOCK_IO_ERROR', {
      ...of(address),
      'node-name': deviceName(address),
      operation: operation === 'read' ? 'read' : 'write',
      action: 'stop',
      nospace: errno === 'ENOSPC' || errno === 'EDQUOT',
      reason: errno,
    }),
  'xen-block:device:resumed': ({ address, by }: DeviceResumedEvent, tell) =>
    tell('X_DISK_RESUMED', { ...of(address), by }),
  'xen-block:device:resized': ({ address, from, to }: DeviceResizedEvent, tell) =>
    tell('X_DISK_RESIZED', { ...of(address), from: 512 * from, to: 512 * to }),
};

/** Tells of all from now on, until the result is called. */
export function subscribeEvents(tell: Tell): () => void {
  const listeners = Object.entries(TOLD).map(([channel, hear]) => {
    const listener = (event: unknown) => hear(event as never, tell);
    subscribe(channel, listener);
    return () => unsubscribe(channel, listener);
  });
  const heard = (event: BlockJobEvent) => tellOfJob(event, tell);
  jobNews.on('job', heard);
  return () => {
    for (const end of listeners) end();
    jobNews.off('job', heard);
  };
}

const JOB_EVENTS = {
  'job-ready': 'BLOCK_JOB_READY',
  'job-ended': 'BLOCK_JOB_COMPLETED',
  'job-failed': 'BLOCK_JOB_COMPLETED',
  'job-cancelled': 'BLOCK_JOB_CANCELLED',
} as const;

function tellOfJob(news: BlockJobEvent, tell: Tell): void {
  if (news.kind === 'job-status') {
    tell('JOB_STATUS_CHANGE', { id: news.id, status: news.status } as never);
    return;
  }
  const {
    kind,
    job: { id, ...figures },
  } = news;
  tell(JOB_EVENTS[kind], {
    ...{ device: id, ...figures, speed: 0 },
    ...(news.kind === 'job-failed' ? { error: news.reason } : {}),
  });
}
