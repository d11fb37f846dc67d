/** The guest beside a hostile one: writes and verifies all the time, and is counted from one instant to another. */
import { diskGuest } from '../shared/disk-tests.mjs';

/** It is not asked for all that the emulated processor can do: what is tested is its turn, not the processor's. */
const RATE = 40;
const RUN_SECONDS = 3600;
const DISK = 'xvda';
const START_SECONDS = 60;
/** What fio ends with when it is interrupted. */
const INTERRUPTED = 128;
const JOB = [
  `--name=neighbour --filename=/dev/${DISK} --ioengine=libaio --direct=1 --rw=randwrite --bs=4k --iodepth=4 --size=16M`,
  `--rate_iops=${RATE} --time_based --runtime=${RUN_SECONDS}`,
  // What was written is read and compared after each so many writes, and not only in the end.
  '--verify=crc32c --verify_fatal=1 --verify_backlog=32',
  '--output-format=json',
].join(' ');
const COUNT = `cat /proc/uptime /sys/block/${DISK}/stat`;

/** fio in a guest, from its start to `end`. */
export class Neighbour {
  #guest;

  /** With its disk, and idle. */
  static async create(way) {
    const neighbour = new Neighbour();
    neighbour.#guest = await diskGuest(way, 'neighbour', { fio: true });
    return neighbour;
  }

  /** Begins to write and to verify. */
  async start() {
    const started = `for i in $(seq ${START_SECONDS}); do test $(awk '{print $5}' /sys/block/${DISK}/stat) -gt ${RATE} && exit 0; sleep 1; done; cat /tmp/fio.*; exit 1`;
    await this.#guest.sh(
      `(fio ${JOB} >/tmp/fio.json 2>/tmp/fio.err & echo $! >/tmp/fio.pid; wait $!; echo $? >/tmp/fio.end) & ${started}`,
    );
  }

  /** What it has done until now: `{ seconds, reads, writes }`, since some instant. Errors: it does not run any more. */
  async count() {
    const text = await this.#guest.sh(`test ! -e /tmp/fio.end || { cat /tmp/fio.*; exit 1; }; ${COUNT}`);
    const [uptime, stat] = text.trim().split('\n');
    const fields = stat.trim().split(/\s+/).map(Number);
    return { seconds: Number.parseFloat(uptime), reads: fields[0], writes: fields[4] };
  }

  /** What it did while `work` was done, which it was busy before and after: `{ seconds, verified, iops, result }`. */
  async during(work) {
    const before = await this.count();
    const result = await work();
    const after = await this.count();
    const seconds = after.seconds - before.seconds;
    return { seconds, verified: after.reads - before.reads, iops: (after.writes - before.writes) / seconds, result };
  }

  /** Ends fio and the guest. Errors: what it read was not what it wrote. */
  async end() {
    const ended = `kill -INT $(cat /tmp/fio.pid); for i in $(seq ${START_SECONDS}); do test -e /tmp/fio.end && break; sleep 1; done`;
    const output = await this.#guest.sh(`${ended}; cat /tmp/fio.end /tmp/fio.json /tmp/fio.err`);
    const code = Number.parseInt(output, 10);
    const { jobs } = JSON.parse(output.slice(output.indexOf('{'), output.lastIndexOf('}') + 1));
    if (code !== INTERRUPTED || jobs[0].error !== 0) throw new Error(`fio: ${output}`);
    await this.#guest.shutdown();
  }
}
