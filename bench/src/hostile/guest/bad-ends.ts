import type { Random } from '../../program/random.js';
import { nonsense, State } from './connection.js';
import type { Life } from './life.js';
import type { LifeEnd, World } from './plan.js';
import type { RingLoad } from './ring-load.js';

/** Writes to xenstore at once. */
const FLOOD = 200;

interface EndOptions {
  readonly life: Life;
  readonly loads: readonly RingLoad[];
  readonly world: World;
  readonly random: Random;
  readonly moves: boolean;
}

/** Ends a connection with requests in flight. */
export async function endBadly(end: LifeEnd, options: EndOptions): Promise<void> {
  await misbehave(end, options);
  if (end !== 'destroyed') await options.life.connection.setState(State.closed);
}

async function misbehave(end: LifeEnd, { life, loads, world, random, moves }: EndOptions): Promise<void> {
  const { connection, events, pages } = life;
  const abandon = () => {
    for (const load of loads) load.abandon();
  };
  switch (end) {
    case 'runaway': {
      const { shared, ring, port } = random.pick(connection.rings);
      const ahead = random.pick([ring.size + 1, 2 ** 31, random.from(ring.size + 1, 2 ** 31)]);
      abandon();
      Atomics.store(shared, 0, (ring.responsesConsumed + ring.size + ahead) | 0);
      events.notify(port);
      // A ring that is being moved, and cannot be attached, makes its disk held.
      if (!moves) await connection.refused();
      break;
    }
    case 'states':
      for (let i = random.from(1, 6); i > 0; i--) {
        await connection.write('state', random.oneIn(4) ? nonsense(random) : String(random.below(10)));
      }
      for (let i = random.below(4); i > 0; i--) {
        await connection.write(random.pick(['ring-ref', 'event-channel', 'protocol', 'odd/key']), nonsense(random));
      }
      abandon();
      break;
    case 'flood': {
      // Each of them wakes the backend's watch; it goes on with its requests meanwhile.
      const writes = Array.from({ length: FLOOD }, (_, i) =>
        i % 3 === 0 ? connection.write('odd/key', nonsense(random)) : connection.setState(State.connected),
      );
      await Promise.all(writes.map((write) => write.catch(unlessTooMany)));
      abandon();
      break;
    }
    case 'grants':
      // What the backend writes to them from now on is nobody's business.
      abandon();
      pages.release();
      await turn();
      break;
    case 'ports':
      abandon();
      connection.release();
      await turn();
      break;
    case 'detached': {
      const detached = world.detach();
      await connection.refused();
      abandon();
      await connection.setState(State.closed);
      await detached;
      break;
    }
    case 'destroyed':
      break;
  }
}

/** Transactions beyond a domain's quota are refused by xenstored, and those that conflict too often: no fault of the backend. */
function unlessTooMany(error: unknown): void {
  const { code } = error as { code?: string };
  if (code !== 'ENOSPC' && code !== 'EAGAIN') throw error;
}

function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 1));
}
