import { readdirSync, readFileSync } from 'node:fs';
import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { expect } from 'vitest';
import { FolderHost } from '../testing/folder-host.js';

needs(working('the addon of xen-sys', requireNativeAddon)).it(
  'the threads of a daemon are told apart by their names',
  async () => {
    await using host = await FolderHost.start();
    const { child } = await host.daemon('--threads', '2', '--control-socket', host.path('control'));
    const tasks = `/proc/${child.pid}/task`;
    const names = () => readdirSync(tasks).map((task) => readFileSync(`${tasks}/${task}/comm`, 'utf8').trimEnd());
    expect(readFileSync(`/proc/${child.pid}/comm`, 'utf8')).toBe('xen-blockd\n');
    expect(names().filter((name) => name.startsWith('xen-block/'))).toHaveLength(2);
  },
);
