/** A guest that misbehaves on its rings and in xenstore, beside one that works. */
import { setTimeout as sleep } from 'node:timers/promises';
import { withoutBlkback } from '../dom0/domain.mjs';
import { group, test } from '../dom0/registry.mjs';
import { log } from '../dom0/report.mjs';
import { run } from '../dom0/run.mjs';
import { until } from '../dom0/shell.mjs';
import { HostileDomain } from './hostile/hostile-domain.mjs';
import { nothingLeft } from './hostile/left-behind.mjs';
import { Neighbour } from './hostile/neighbour.mjs';
import { onWay, tap } from './shared/ways.mjs';

const QUIET_SECONDS = 10;
/** Of each way of misbehaving, at least. */
const WAY_SECONDS = 4;
/** What the machine itself was busy with does not come again. */
const SECOND_TRY_SECONDS = 12;
/** What is in the middle of it when the domain is destroyed. */
const LAST = 'noise in every slot';
const LAST_SECONDS = 3;
/** Of what the neighbour has beside a guest that does nothing. */
const LEAST_SHARE = 0.8;
/** It has more for as long as it makes up for what it could not write. That counts for nobody. */
const MOST_SHARE = 1.15;
const SETTLE_MS = 1000;

/** The neighbour's part of what it has alone, while `work` is done. */
async function shareDuring(neighbour, alone, work) {
  await until('its making up for what it could not write', async () => {
    const { iops } = await neighbour.during(() => sleep(SETTLE_MS));
    return iops < MOST_SHARE * alone;
  });
  const { iops, ...window } = await neighbour.during(work);
  return { ...window, share: iops / alone };
}

/** What came of each way of misbehaving, in a line for each. Errors: it cost the neighbour more than its part. */
async function misbehavesIn({ name, ...kinds }, { hostile, neighbour, alone }) {
  let row = await shareDuring(neighbour, alone, () => hostile.misbehave({ name, seconds: WAY_SECONDS, ...kinds }));
  if (row.share < LEAST_SHARE) {
    tell(name, row);
    // The machine may be slower than it was when the neighbour was alone.
    const now = await shareDuring(neighbour, alone, () => sleep(1000 * QUIET_SECONDS));
    const part = Math.min(1, now.share);
    row = await shareDuring(neighbour, part * alone, () =>
      hostile.misbehave({ name, seconds: SECOND_TRY_SECONDS, ...kinds }),
    );
  }
  tell(name, row);
  if (row.share < LEAST_SHARE) throw new Error(`beside ${name} the neighbour keeps ${percent(row.share)}`);
  if (row.verified === 0) throw new Error(`beside ${name} the neighbour has verified nothing`);
  return row;
}

function tell(name, { share, seconds, verified, result }) {
  const did = result ? `, ${result.times} times, ${result.answered} answers` : '';
  log(`hostile: ${name}: ${seconds.toFixed(1)} s${did}; neighbour ${percent(share)}, ${verified} blocks verified`);
}

const percent = (share) => `${Math.round(100 * share)} %`;

async function misbehaves({ way }) {
  const neighbour = await Neighbour.create(way);
  const checkNothingLeft = await nothingLeft(way.daemon);
  const hostile = await HostileDomain.create(way);
  const names = await hostile.start(run.seed);
  await neighbour.start();
  const { iops: alone } = await neighbour.during(() => sleep(1000 * QUIET_SECONDS));
  const rows = {};
  // Each on all kinds of connections, or on one, which is another one for another seed.
  const least = run.long ? undefined : 1;
  for (const [i, name] of names.entries())
    rows[name] = await misbehavesIn({ name, first: run.seed + i, least }, { hostile, neighbour, alone });
  // Once more, and it is gone in the middle of it.
  rows.destroyed = await shareDuring(neighbour, alone, async () => {
    await hostile.ask({ name: LAST, seconds: 1000, first: run.seed });
    await sleep(1000 * LAST_SECONDS);
    await hostile.destroy();
  });
  tell('destroyed', rows.destroyed);
  way.daemon.check();
  const left = await checkNothingLeft();
  await neighbour.end();
  const table = Object.entries(rows).map(
    ([name, { seconds, share }]) => `${name} ${seconds.toFixed(1)} s ${percent(share)}`,
  );
  return `neighbour ${Math.round(alone)} a second alone, beside: ${table.join(', ')}; left ${JSON.stringify(left)}; seed ${run.seed}`;
}

const way = onWay(tap);

async function teardown(context) {
  await way.teardown(context);
  await withoutBlkback();
}

group('hostile', { ...way, teardown, xen: ['4.20'] }, [
  test('a guest that misbehaves on its ring and in xenstore disturbs no other one', misbehaves, { minutes: 20 }),
]);
