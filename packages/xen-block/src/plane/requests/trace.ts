import { requestIdHigh, requestIdLow, requestOperation, requestSector, SECTOR_SIZE } from '@xenpv/blkif';
import { type RequestEvent, requestChannels } from '../../diagnostics.js';
import { Point, type PointNumber } from '../trace/trace-buffer.js';
import { mostBytes, tracedOperation } from './check.js';
import { Recovered, type RequestTable, ROW_WORDS } from './table.js';

/** By point. */
const CHANNELS = [
  requestChannels.pulled,
  requestChannels.queued,
  requestChannels.completed,
  requestChannels.pushed,
] as const;

/**
 * Decides whether requests are told of as they pass: to be called whenever a data plane begins to run, so that the points
 * themselves have one flag to look at, and nothing else to do.
 */
export function observe(table: RequestTable): void {
  table.observed = table.traced || CHANNELS.some(({ hasSubscribers }) => hasSubscribers);
}

/** Tells of a request that passes a point of its way: the ring's tracer, and who listens to diagnostics. */
export function trace(point: PointNumber, table: RequestTable, row: number): void {
  const channel = CHANNELS[point];
  const ring = table.ringOf(row);
  const isKnown = isChecked(point, table, row);
  const request = isKnown ? checkedRequest(table, row) : takenRequest(table, row);
  if (channel.hasSubscribers) channel.publish(requestEvent(ring.name, isKnown ? request : { ...request, length: 0 }));
  ring.tracer?.passed(point, row, request);
}

/** Whether its range was found good: until then the table has the one of an earlier request. */
function isChecked(point: PointNumber, table: RequestTable, row: number): boolean {
  return point !== Point.taken && table.refused[row] === 0 && table.recovered[row] !== Recovered.givenUp;
}

function requestEvent(ring: string, { idLow, idHigh, ...request }: ReturnType<typeof checkedRequest>): RequestEvent {
  return { ring, id: (BigInt(idHigh) << 32n) | BigInt(idLow), ...request };
}

function checkedRequest(table: RequestTable, row: number) {
  return {
    ...idOf(table, row),
    operation: table.operation[row],
    offset: table.offset[row],
    length: table.length[row],
    status: table.status[row],
  };
}

/** By the guest's own words: nothing of it is checked. How much an indirect request moves is not in its slot. */
function takenRequest(table: RequestTable, row: number) {
  const { words } = table;
  const at = row * ROW_WORDS;
  const ring = table.ringOf(row);
  const operation = tracedOperation(words, at);
  return {
    ...idOf(table, row),
    operation,
    offset: requestSector(words, at, ring.abi) * SECTOR_SIZE,
    length: requestOperation(words, at) === operation ? mostBytes(table, row, ring) : -1,
    status: table.status[row],
  };
}

function idOf(table: RequestTable, row: number) {
  const { abi } = table.ringOf(row);
  const at = row * ROW_WORDS;
  return {
    idLow: requestIdLow(table.words, at, abi) >>> 0,
    idHigh: requestIdHigh(table.words, at, abi) >>> 0,
  };
}
