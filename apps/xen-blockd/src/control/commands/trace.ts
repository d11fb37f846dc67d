/** What the requests of a disk do, as they do it. `xen-blockd trace` is the client that it is made for. */
import { BlkifOp } from '@xenpv/blkif';
import { type QmpCommand, qmpCommand } from '@xenpv/qmp';
import { RECORD_WORDS, RecordWord } from '@xenpv/xen-block';
import { deviceName } from '@xenpv/xenbus';
import { type ControlContext, namedDisk } from '../controlled.js';
import { Traces } from '../traces.js';

const OPERATIONS = {
  read: BlkifOp.read,
  write: BlkifOp.write,
  barrier: BlkifOp.writeBarrier,
  flush: BlkifOp.flushDiskcache,
  discard: BlkifOp.discard,
} as const;
type OperationName = keyof typeof OPERATIONS;
const NAMES = Object.keys(OPERATIONS) as OperationName[];

const WAIT_MS = 1000;
const MOST_WAIT_MS = 10_000;

/** Names of a record's values, in their order. */
const WORDS = Object.entries(RecordWord)
  .sort(([, a], [, b]) => a - b)
  .map(([name]) => name);

export function traceCommands(controlled: ControlContext): Record<string, QmpCommand> {
  const traces = new Traces();
  return {
    /**
     * Begins to trace a disk, until x-trace-stop or the end of this connection. `words` are the names of a record's values, in
     * their order; x-trace-read has the records.
     */
    'x-trace-start': qmpCommand({
      members: { disk: 'str', 'operations?': { array: { enum: NAMES } }, 'queue?': 'size' },
      returns: { object: { trace: 'int', device: 'str', words: { array: 'str' }, operations: 'any' } },
      async run({ disk, operations, queue }, { signal }) {
        const device = await namedDisk(controlled, disk);
        const filter = { operations: operations?.map((name) => OPERATIONS[name]), queue };
        const trace = await traces.begin(device, filter, signal);
        return {
          trace,
          device: deviceName(device.address),
          words: WORDS.slice(0, RECORD_WORDS),
          operations: OPERATIONS,
        };
      },
    }),
    /**
     * The records since the last reading, at most 1024 of them; waits so long for the first. `records` are 64-bit floats, the
     * least significant byte first, in base64. `lost` records were overwritten before they were read. With `ended` the disk is
     * gone.
     */
    'x-trace-read': qmpCommand({
      members: { trace: 'int', 'wait-ms?': 'size' },
      returns: { object: { records: 'str', lost: 'size', ended: 'bool' } },
      run: ({ trace, 'wait-ms': waitMs = WAIT_MS }, { signal }) =>
        traces.read(trace, Math.min(waitMs, MOST_WAIT_MS), signal),
    }),
    /** Ends a trace. */
    'x-trace-stop': qmpCommand({
      members: { trace: 'int' },
      run: ({ trace }, { signal }) => traces.end(trace, signal),
    }),
  };
}
