/**
 * What the daemon's answers have to be for the command line to read them. A daemon of another version may not have all of it, or have it
 * otherwise; what it has beyond that is nobody's business. Members that an older daemon does not say are optional.
 */
import {
  ACCOUNTING_CLASSES,
  type ClassStatistics,
  type DiskStatistics,
  LATENCY_PHASES,
  type OnError,
} from '@xenpv/xen-block';
import * as v from 'valibot';
import type { DaemonStatus } from '../status/daemon-status.js';
import type { AverageRates, Averages } from '../status/disks/averages.js';
import type { DiskFeatures, DiskReport } from '../status/disks/device-status.js';
import type { DiskError, RefusedDisk, StorageFailure } from '../status/disks/disk-errors.js';

/** A schema for each member of `T`: the compiler finds one that was forgotten. */
type Members<T> = { readonly [K in keyof T]-?: v.GenericSchema<unknown, T[K]> };

const text = v.string();
const number = v.number();
const flag = v.boolean();
const date = v.pipe(
  text,
  v.check((value) => !Number.isNaN(Date.parse(value)), 'Expected a date'),
);
const [maybeText, maybeNumber, maybeFlag, maybeDate] = [
  v.optional(text),
  v.optional(number),
  v.optional(flag),
  v.optional(date),
];

const features: Members<DiskFeatures> = {
  flush: flag,
  discard: flag,
  secureDiscard: flag,
  maxIndirectSegments: number,
};
const refused: Members<RefusedDisk> = { since: date, code: text, reason: text };
const lastError: Members<DiskError> = { at: date, kind: text, message: text, count: number };
const failure: Members<StorageFailure> = { at: date, operation: text, errno: text, offset: number, length: number };
const { at: _at, ...request } = failure;
const stopped: Members<NonNullable<DiskReport['stopped']>> = { since: date, ...request };
const held: Members<NonNullable<DiskReport['held']>> = { reason: text, since: date, attempts: number };

const rates: Members<AverageRates> = {
  seconds: number,
  iops: number,
  readIops: number,
  writeIops: number,
  readBandwidth: number,
  writeBandwidth: number,
};
const averages: Members<Averages> = { minute: v.optional(v.object(rates)), fiveMinutes: v.optional(v.object(rates)) };

const counted: Members<ClassStatistics> = {
  operations: number,
  bytes: number,
  failed: number,
  invalid: number,
  errors: v.record(text, number),
  merged: number,
  totalTimeNs: number,
  storageTimeNs: number,
  latency: v.object(v.entriesFromList(LATENCY_PHASES, v.array(number))),
};
const statistics: Members<DiskStatistics> = {
  ...v.entriesFromList(ACCOUNTING_CLASSES, v.object(counted)),
  unknown: number,
  events: number,
  notifications: number,
  passes: number,
  starved: number,
  overlooked: number,
  inexact: number,
  recovered: number,
  throttledTimeNs: number,
  inFlight: number,
  waiting: number,
  bufferBytes: number,
  kept: number,
};

const disk: Members<DiskReport> = {
  device: text,
  type: text,
  domid: number,
  devid: number,
  vdev: maybeText,
  deviceType: maybeText,
  image: maybeText,
  target: maybeText,
  mediumTrouble: maybeText,
  format: maybeText,
  engine: maybeText,
  identity: maybeText,
  readOnly: maybeFlag,
  shared: maybeFlag,
  size: maybeNumber,
  sectorSize: maybeNumber,
  features: v.optional(v.object(features)),
  connected: flag,
  since: maybeDate,
  abi: maybeText,
  queues: number,
  ringPages: number,
  // A newer daemon may have one more.
  onError: v.optional(v.custom<OnError>((value) => typeof value === 'string')),
  limits: text,
  guestLimits: text,
  paused: maybeDate,
  stopped: v.optional(v.object(stopped)),
  held: v.optional(v.object(held)),
  refused: v.optional(v.object(refused)),
  lastError: v.optional(v.object(lastError)),
  lastStorageError: v.optional(v.object(failure)),
  orphanedSince: maybeDate,
  oldestRequestMs: number,
  wasStopped: maybeFlag,
  statistics: v.object(statistics),
  averages: v.optional(v.object(averages)),
  guest: maybeText,
  backendPath: text,
};

const daemon: Members<DaemonStatus> = {
  version: text,
  pid: number,
  since: date,
  types: v.array(text),
  serving: flag,
  domid: maybeNumber,
  memoryBytes: number,
  configuration: maybeText,
};

const NO_DISK = 'Expected a disk';

/** Of the commands that answer with disks. */
export const DISKS_ANSWER = v.array(v.object(disk));

/** Of those that answer with the disk that was named, first. */
export const DISK_ANSWER = v.pipe(DISKS_ANSWER, v.minLength(1, NO_DISK));

/** Of those that answer with the disk that was named, where only its name is read. */
export const NAME_ANSWER = v.pipe(v.array(v.object({ device: text })), v.minLength(1, NO_DISK));

/** Of `x-query-daemon`. */
export const DAEMON_ANSWER = v.object(daemon);

/** What an upgrade needs of them: it is what helps against a daemon whose other answers cannot be read. */
export const UPGRADE_ANSWERS = {
  daemon: v.object({ version: text, pid: number, serving: flag, configuration: maybeText }),
  disks: v.array(v.object({ device: text, connected: flag, since: maybeDate })),
};
