/** A backend that is no disk: the console of the examples, with Linux's own driver of it at the other end. */
import { spawn } from 'node:child_process';
import { mkdirSync, openSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { attachDevice, removeDevice } from '/lab/repo/packages/xenbus/dist/index.js';
import { XenstoreClient } from '/lab/repo/packages/xenstore/dist/index.js';
import { Domain } from '../dom0/domain.mjs';
import { CONSOLE_BACKEND } from '../dom0/paths.mjs';
import { group, test } from '../dom0/registry.mjs';
import { until } from '../dom0/shell.mjs';
import { xsExists, xsRead } from '../dom0/xenstore.mjs';

const FOLDER = '/tmp/consoles';
const LOG = '/tmp/logs/console-backend.log';
/** Console 0 is xenconsoled's. */
const DEVID = 1;
const TTY = '/dev/hvc1';
/** More than the ring has room for, and than the guest's driver keeps. */
const LINES = 8000;
/** What a killed process had taken from the ring and not yet written: at most the ring, 2 KiB. */
const MOST_LOST = 200;
const CONNECTED = '4';

/** The example as a process of its own. */
class ConsoleBackend {
  constructor() {
    const out = openSync(LOG, 'a');
    this.child = spawn('node', [CONSOLE_BACKEND, FOLDER], { stdio: ['ignore', out, out] });
    this.ended = new Promise((resolve) => this.child.on('exit', (code, signal) => resolve(signal ?? code)));
  }

  async end(signal) {
    this.child.kill(signal);
    return this.ended;
  }
}

/** A person at the other end: `text` is all that was shown since. */
class Terminal {
  text = '';

  static async join(domid) {
    const path = `${FOLDER}/console-${domid}-${DEVID}`;
    const socket = await until(`a console at ${path}`, () => opened(path));
    const terminal = new Terminal();
    socket.on('data', (bytes) => {
      terminal.text += bytes;
    });
    socket.on('error', () => {});
    terminal.socket = socket;
    return terminal;
  }

  type(text) {
    this.socket.write(text);
  }

  shows(text, timeout = 60) {
    return until(`${JSON.stringify(text)} on the console`, () => this.text.includes(text), { timeout }).catch(
      (error) => {
        throw new Error(`${error.message}; it shows ${JSON.stringify(this.text.slice(-300))}\n${readFileSync(LOG)}`);
      },
    );
  }
}

function opened(path) {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => resolve(socket)).once('error', () => resolve(undefined));
  });
}

async function isConnected(domid) {
  const path = `/local/domain/${domid}/device/console/${DEVID}`;
  const backend = `/local/domain/0/backend/console/${domid}/${DEVID}`;
  const states = async () => `${await xsRead(`${path}/state`)} ${await xsRead(`${backend}/state`)}`;
  await until('both ends Connected', async () => (await states()) === `${CONNECTED} ${CONNECTED}`).catch(
    async (error) => {
      throw new Error(`${error.message}, but ${await states()}\n${readFileSync(LOG)}`);
    },
  );
}

async function consoleOfLinux() {
  mkdirSync(FOLDER, { recursive: true });
  const store = await XenstoreClient.connect();
  let backend = new ConsoleBackend();
  try {
    const guest = await Domain.guest('console');
    const attach = () => attachDevice(store, guest.domid, { type: 'console', devid: DEVID });
    const attached = await attach();
    await isConnected(guest.domid);
    let terminal = await Terminal.join(guest.domid);
    // A console has its settings for as long as somebody has it open.
    const loop = `stty raw -echo; while read l; do echo "heard $l"; done`;
    await guest.sh(`(${loop}) <${TTY} >${TTY} 2>/dev/null & echo $! >/tmp/loop; sleep 1`);
    terminal.type('a word\n');
    await terminal.shows('heard a word\n');

    // It is killed while the guest writes more than fits; the next one goes on with the same ring.
    await guest.sh(`(for i in $(seq ${LINES}); do echo "line $i of it"; done >${TTY}; echo $? >/tmp/written) & true`);
    await terminal.shows('line 100 of it\n');
    await backend.end('SIGKILL');
    const first = terminal;
    backend = new ConsoleBackend();
    terminal = await Terminal.join(guest.domid);
    await terminal.shows(`line ${LINES} of it\n`, 120);
    await guest.sh('for i in $(seq 100); do test -e /tmp/written && break; sleep 0.1; done; grep -qx 0 /tmp/written');
    const lost = missing(first.text + terminal.text);
    if (lost > MOST_LOST) throw new Error(`${lost} of ${LINES} lines were shown to nobody`);
    terminal.type('another word\n');
    await terminal.shows('heard another word\n');

    // Ended in order, and what is written meanwhile waits in the ring.
    const code = await backend.end('SIGTERM');
    if (code !== 0) throw new Error(`the backend ended with ${code}`);
    await guest.sh(`echo "nobody is there" >${TTY}`);
    backend = new ConsoleBackend();
    terminal = await Terminal.join(guest.domid);
    await terminal.shows('nobody is there\n');

    await guest.sh('kill $(cat /tmp/loop)');
    await removeDevice(store, attached);
    const again = await attach();
    await isConnected(guest.domid);
    await guest.sh(`(stty raw -echo; echo "once more") <${TTY} >${TTY}`);
    await (await Terminal.join(guest.domid)).shows('once more\n');
    // libxl knows nothing of it, and would leave it there.
    await removeDevice(store, again);
    const backends = `/local/domain/0/backend/console/${guest.domid}/${DEVID}`;
    if (await xsExists(backends)) throw new Error(`${backends} is left`);
    await guest.shutdown();
    return `of ${LINES} lines ${lost} were with the one that was killed`;
  } finally {
    backend.child.kill('SIGKILL');
    await store.close();
  }
}

/** Lines that nobody was shown: the killed backend had them, or they were in its socket. */
function missing(text) {
  const seen = new Set(text.match(/line \d+ of it\n/g));
  return LINES - seen.size;
}

group('other backends', { xen: ['4.17'] }, [
  test("the example's console serves Linux's, which outlives it", consoleOfLinux, { minutes: 4 }),
]);
