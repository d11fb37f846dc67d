/** The domain whose program misbehaves, seen from dom0. */
import { Domain } from '../../dom0/domain.mjs';

const PROGRAM = '/lab/e2e/tests/hostile/hostile-frontend.mjs';
const FOLDER = '/tmp/hostile';
const VDEV = 'xvdc';
const READ_ONLY_VDEV = 'xvdd';
const START_SECONDS = 60;
/** What it does takes as long as it takes. */
const END_SECONDS = 240;

export class HostileDomain {
  #domain;

  /** A domain with two disks of the way, which its kernel leaves alone. */
  static async create(way) {
    for (const name of ['hostile', 'hostile-ro']) await way.image(name, 16);
    // Half a processor at most, which it shares with its neighbour.
    const domain = await Domain.machine('hostile', { lines: ['cpus="1"', 'cap=50'] });
    await domain.sh('echo 0 >/sys/bus/xen/drivers_autoprobe');
    await domain.attach(way.disk(VDEV, 'hostile'));
    await domain.attach(way.disk(READ_ONLY_VDEV, 'hostile-ro', { readOnly: true }));
    const hostile = new HostileDomain();
    hostile.#domain = domain;
    return hostile;
  }

  /** Starts the program. Resolves with the names of what it can do. */
  async start(seed) {
    const program = `node ${PROGRAM} ${FOLDER} ${VDEV} ${READ_ONLY_VDEV} ${seed}`;
    await this.#domain.sh(`mkdir -p ${FOLDER}; ${program} >${FOLDER}/log 2>&1 & echo $! >/tmp/hostile.pid`);
    return this.#told('names', START_SECONDS);
  }

  /** Has it misbehave as misbehaveFor of the guest takes it. Resolves with what it tells of it. Errors: what it did not get was its due. */
  async misbehave(wanted) {
    await this.ask(wanted);
    return this.#told('answer', END_SECONDS);
  }

  /** The same, without its end. */
  async ask(wanted) {
    const text = JSON.stringify(wanted);
    await this.#domain.sh(`echo '${text}' >${FOLDER}/part-of-ask && mv ${FOLDER}/part-of-ask ${FOLDER}/ask`);
  }

  async #told(file, seconds) {
    const path = `${FOLDER}/${file}`;
    const found = `test -e ${path} && cat ${path} && rm ${path} && exit 0`;
    const loop = `for i in $(seq ${5 * seconds}); do ${found}; kill -0 $(cat /tmp/hostile.pid) || break; sleep 0.2; done`;
    const text = await this.#domain.sh(`${loop}; tail -n 20 ${FOLDER}/log; exit 1`, { timeout: 3 * seconds });
    return JSON.parse(text);
  }

  async destroy() {
    await this.#domain.destroy();
    await this.#domain.gone();
  }
}
