import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { needs } from '@xenpv/test-support';
import { expect, it } from 'vitest';
import { capabilityNames } from './capabilities.js';
import { exposureIn, privilegesInForce } from './in-force.js';
import { isDaemon, privilegesOf } from './process-privileges.js';

it.each([
  ['0000000000000000', []],
  ['0000000000000002', ['dac_override']],
  ['0000000000200001', ['chown', 'sys_admin']],
  ['000003ffffffffff', expect.arrayContaining(['checkpoint_restore', 'cap_41'])],
])('the set %s has names', (set, names) => {
  expect(capabilityNames(set)).toEqual(names);
});

it.each([
  ['/usr/bin/node /usr/bin/xen-blockd run', true],
  ['node /usr/lib/node_modules/xen-blockd/dist/main.js run --type vbd3', true],
  ['/usr/bin/node /usr/bin/xen-blockd check', false],
  ['vim /root/xen-blockd', false],
  ['', false],
])('%s is a daemon: %s', (line, is) => {
  expect(isDaemon(line.split(' '))).toBe(is);
});

it.each([
  ['→ Overall exposure level for xen-blockd.service: 1.9 OK 🙂', 1.9],
  ['→ Overall exposure level for a.service: 10.0 DANGEROUS 😨', 10],
  ['Unit xen-blockd.service not found.', undefined],
])('%s is an exposure of %s', (text, exposure) => {
  expect(exposureIn(`table\n\n${text}\n`)).toBe(exposure);
});

needs('Linux').it('a process that has ended has no privileges', async () => {
  const child = spawn('true');
  const { pid = 0 } = child;
  await once(child, 'close');
  expect(privilegesOf(pid)).toBe(undefined);
});

needs('Linux', 'setpriv').it('what a daemon has and does not need is told, with what closes it', async () => {
  // Whatever user this is, it may run other programs with more rights.
  const child = spawn('sh', ['-c', 'ulimit -c unlimited; echo; cat', 'xen-blockd', 'run'], { stdio: 'pipe' });
  await once(child.stdout, 'data');
  try {
    const found = (await privilegesInForce()).find(({ privileges }) => privileges?.pid === child.pid);
    expect(found).toMatchObject({ name: 'daemon', ok: false, privileges: { noNewPrivileges: false } });
    expect(found?.detail).toMatch(
      /^pid \d+: user \d+.*; open, which the unit xen-blockd\.service closes: .*new privileges/,
    );
  } finally {
    child.kill();
  }
});
