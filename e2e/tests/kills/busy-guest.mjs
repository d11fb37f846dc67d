/** A guest that proves what it wrote while its backend dies: one disk as it is, one with a file system. */

/** A pause of the backend, not of the emulated processor. */
const PAUSE_NS = 300_000_000;
/** A last pass on slow storage, on a busy machine. */
const END_SECONDS = 420;

export class BusyGuest {
  /** fio verifies what it writes on `plain`; the file system is on `tree`. */
  constructor(guest, { plain, tree }) {
    this.guest = guest;
    this.plain = `/dev/${plain}`;
    this.tree = `/dev/${tree}`;
  }

  async start() {
    const { guest, plain, tree } = this;
    await guest.sh(`mkfs.ext4 -q -F ${tree} && mkdir -p /mnt/tree && mount -t ext4 -o discard ${tree} /mnt/tree`);
    await guest.sh('dmesg -c >/dev/null');
    await guest.sh(background('plain', verifiedPass(plain)));
    await guest.sh(background('tree', treePass()));
    await this.startProbe();
  }

  async startProbe() {
    const probing = `${probe(this.plain)} >/tmp/probe.out 2>&1 & echo $! >/tmp/probe.pid; wait $!; echo ended >/tmp/probe.end`;
    await this.guest.sh(`rm -f /tmp/probe*; (${probing}) & echo started`);
  }

  /** Milliseconds of the probe's reads that took longer than any does without a restart. */
  async endProbe() {
    await this.guest.sh('kill -INT $(cat /tmp/probe.pid)');
    await this.#end('probe');
    const lines = await this.guest.sh(`awk -F, '$2 > ${PAUSE_NS} { print int($2 / 1000000) }' /tmp/probe_clat.1.log`);
    return lines.trim().split('\n').filter(Boolean).map(Number);
  }

  /** Errors: a load that has ended, with what it said. */
  async check() {
    const tell = 'tail -n 20 /tmp/*.out; dmesg | tail -20; exit 1';
    await this.guest.sh(`! ls /tmp/*.end 2>/dev/null || { ${tell}; }`, { timeout: END_SECONDS });
  }

  /** Lets the loads come to their ends. Errors: wrong data, an I/O error, a file system that is not clean. */
  async finish() {
    const { guest, tree } = this;
    await guest.sh('touch /tmp/stop');
    for (const name of ['plain', 'tree']) await this.#end(name);
    await guest.sh('umount /mnt/tree', { timeout: END_SECONDS });
    await guest.sh(`e2fsck -fn ${tree}`, { timeout: END_SECONDS });
    await guest.sh(`! dmesg | grep -iE 'I/O error|EXT4-fs (error|warning)|blocked for more|blkfront.*(fail|error)'`);
  }

  async #end(name) {
    const wait = `for i in $(seq ${END_SECONDS}); do test -e /tmp/${name}.end && break; sleep 1; done`;
    const failed = `test -e /tmp/${name}.end && test ! -e /tmp/${name}.failed`;
    const tell = `tail -n 30 /tmp/${name}.out; grep . /sys/block/xvd*/inflight; dmesg | tail -20; exit 1`;
    // A second of a guest that shares a busy processor may be two.
    await this.guest.sh(`${wait}; ${failed} || { ${tell}; }`, { timeout: 2 * END_SECONDS + 60 });
  }

  /** Passes that the loads completed. */
  async passes() {
    const counts = await this.guest.sh('cat /tmp/plain.end /tmp/tree.end');
    return counts.trim().split('\n').map(Number);
  }
}

/** `pass` again and again, with its number in $i, until /tmp/stop is there or it fails. */
function background(name, pass) {
  const failed = `{ echo $i >/tmp/${name}.failed; break; }`;
  const loop = `i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); (${pass}) >/tmp/${name}.out 2>&1 || ${failed}; done`;
  return `(${loop}; echo $i >/tmp/${name}.end) & echo started`;
}

/** Writes, reads, flushes and trims; then all that was written is read. Another seed, so that old data are found out. */
function verifiedPass(disk) {
  const common = `--filename=${disk} --ioengine=libaio --direct=1 --thread`;
  const verify = '--verify=crc32c --verify_fatal=1 --do_verify=1 --randseed=$i';
  return [
    `fio ${common}`,
    `--name=data --rw=randrw --rwmixwrite=75 --bsrange=4k-64k --bs_unaligned=0 --size=4M --iodepth=32 --fsync=64 ${verify}`,
    '--name=trims --rw=trimwrite --bs=64k --offset=32M --size=4M --iodepth=2',
  ].join(' ');
}

/** Files made, synced, read again from the disk, and removed. */
function treePass() {
  const files = 'for f in /bin/busybox /usr/bin/mke2fs /agent';
  return [
    'd=/mnt/tree/$((i % 6)); rm -rf $d; mkdir $d',
    `${files}; do cp $f $d/ || exit 1; done; sync; echo 3 >/proc/sys/vm/drop_caches`,
    `${files}; do cmp $f $d/$(basename $f) || exit 1; done`,
  ].join('; ');
}

/** A small read at a time: as long as it takes, the disk is away. */
function probe(disk) {
  return [
    `fio --name=probe --filename=${disk} --ioengine=psync --direct=1 --thread --rw=randread --bs=4k --offset=48M`,
    '--size=8M --thinktime=20000 --time_based --runtime=86400 --write_lat_log=/tmp/probe',
  ].join(' ');
}
