/** In dom0: a disk of a guest that the floor serves. No toolstack knows its kind, so all that xl and a backend write is written here. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync, readFileSync } from 'node:fs';
import { parseVdev } from '/lab/repo/packages/blkif/dist/index.js';
import { XenbusState } from '/lab/repo/packages/xenbus/dist/index.js';
import { sh, until } from '../../dom0/shell.mjs';
import { xsRead } from '../../dom0/xenstore.mjs';

const PROGRAM = '/lab/bin/floor';
const SECTOR = 512;
/** As the floor's MOST_SEGMENTS. */
const MOST_SEGMENTS = 32;

export class FloorDisk {
  #child;
  #backend;

  /** `kind` is `null` for one that does nothing of what it is asked. */
  static async attach(domid, { vdev, device, kind }) {
    const { number: id } = parseVdev(vdev);
    const frontend = `/local/domain/${domid}/device/vbd/${id}`;
    const disk = new FloorDisk();
    disk.#backend = `/local/domain/0/backend/floor/${domid}/${id}`;
    await disk.#offer(domid, frontend, id);
    await until(
      'the guest to offer its ring',
      async () => Number(await xsRead(`${frontend}/state`)) === XenbusState.initialised,
    );
    const ring = [await xsRead(`${frontend}/ring-ref`), await xsRead(`${frontend}/event-channel`)];
    await disk.#start([domid, ...ring, device, ...(kind === 'null' ? ['null'] : [])]);
    const sectors = Number(await sh(`blockdev --getsize64 ${device}`)) / SECTOR;
    await write(disk.#backend, { sectors, info: 0, 'sector-size': SECTOR, state: XenbusState.connected });
    return disk;
  }

  async #offer(domid, frontend, id) {
    for (const [path, owner, reader] of [
      [this.#backend, 0, domid],
      [frontend, domid, 0],
    ])
      await sh(`xenstore-write ${path} '' && xenstore-chmod ${path} n${owner} r${reader}`);
    await write(this.#backend, {
      frontend,
      'frontend-id': domid,
      online: 1,
      'feature-flush-cache': 1,
      'feature-max-indirect-segments': MOST_SEGMENTS,
      state: XenbusState.initWait,
    });
    const others = { 'backend-id': 0, 'virtual-device': id, 'device-type': 'disk', state: XenbusState.initialising };
    await write(frontend, { backend: this.#backend, ...others });
  }

  async #start(args) {
    const log = `/tmp/logs/floor-${args.join('-').replaceAll('/', '')}.log`;
    const out = openSync(log, 'w');
    this.#child = spawn(PROGRAM, args.map(String), { stdio: ['ignore', out, out] });
    const isReady = () => {
      const text = readFileSync(log, 'utf8');
      if (this.#child.exitCode !== null) throw new Error(`the floor ended: ${text}`);
      return text.includes('ready');
    };
    await until('the floor', isReady);
  }

  /** Ends it: what it maps would keep the guest from going. */
  async end() {
    const ended = once(this.#child, 'exit');
    this.#child.kill();
    await ended;
    await sh(`xenstore-rm ${this.#backend}`);
  }
}

/** In this order: the state is to be seen last. */
async function write(path, keys) {
  for (const [name, value] of Object.entries(keys)) await sh(`xenstore-write '${path}/${name}' '${value}'`);
}
