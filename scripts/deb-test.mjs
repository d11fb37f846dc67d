/** `npm run test:deb`: the package in a real Debian, from its installation to its purge. */
import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { buildDeb } from './deb/build.mjs';
import { DebianRoot } from './deb/root.mjs';
import { sourceDate } from './deb/version.mjs';
import { DEBIAN, install } from './lib/debian.mjs';
import { readArguments, runMain, sayOnStderr } from './lib/program.mjs';
import { setup } from './lib/setup.mjs';
import { run, StepError, seconds } from './lib/steps.mjs';

const USAGE = `usage: npm run test:deb [-- OPTIONS]

Builds two versions of the package and installs, upgrades, uses, removes and purges it in a real Debian 13, which is made
with debootstrap at the first time. Needs root.

  --with-node   in a Debian 12, whose nodejs is too old, with Node in the package
  --no-setup    take the dependencies and addons as they are
  --help        this text
`;

const flag = { type: 'boolean', default: false };

const UNIT = '/usr/lib/systemd/system/xen-blockd.service';
/** What apt and dpkg write themselves. */
const NOT_OURS = /^\/(proc|tmp|run\/systemd|var\/(cache|lib\/(apt|dpkg|systemd|ucf)|log)|etc\/ld\.so\.cache)(\/|$)/;

/** Steps in their order: each begins with what the one before has left. */
const STEPS = {
  'the same tree gives the same bytes': async ({ first, build }) => {
    const again = await build(first.version);
    assert.ok(readFileSync(first.path).equals(readFileSync(again.path)));
  },
  'lintian finds no error': async ({ first }) => {
    const text = await run('lintian', 'lintian', ['--fail-on', 'none', '--tag-display-limit', '0', first.path]);
    assert.deepEqual(
      text.split('\n').filter((line) => line.startsWith('E:')),
      [],
    );
  },
  'apt install: nothing is started, and the program runs': async ({ root, first }) => {
    await aptInstall(root, first.path);
    assert.equal((await root.run('xen-blockd', '--version')).trim(), programVersion(root));
    assert.match(await root.run('xen-blockd', 'run', '--help'), /--type/);
    assert.match(await root.run('dpkg', '--verify', 'xen-blockd').then((text) => text || 'whole'), /^whole$/);
  },
  'check finds the addons, and tells what a machine without Xen lacks': async ({ root }) => {
    const failed = await root.run('xen-blockd', 'check').then(
      () => assert.fail('there is no Xen here'),
      (error) => error,
    );
    assert.ok(failed instanceof StepError);
    assert.match(failed.output, /^ok +native addon/m);
    assert.match(failed.output, /^MISSING/m);
    await root.run('xen-blockd', 'check', '--config', '/etc/xen-blockd.toml');
  },
  'the demo says what it lacks, for the package has no emulator': async ({ root }) => {
    const failed = await root.run('xen-blockd', 'demo').then(
      () => assert.fail('there is an emulator here'),
      (error) => error,
    );
    assert.match(failed.output, /needs @xenpv\/emulator, which is not installed/);
  },
  'man and completion find theirs': async ({ root }) => {
    assert.match(await root.run('man', '-P', 'cat', 'xen-blockd'), /serve disk images to Xen guests/);
    const program =
      '. /usr/share/bash-completion/bash_completion; _comp_load xen-blockd 2>/dev/null || _completion_loader xen-blockd;';
    const asked = 'COMP_WORDS=(xen-blockd resu); COMP_CWORD=1; _xen_blockd; echo "$COMPREPLY"';
    assert.equal((await root.run('bash', '-c', `${program} ${asked}`)).trim(), 'resume');
  },
  'systemd has nothing to say about the unit': async ({ root }) => {
    const script = `systemd-analyze verify ${UNIT} 2>&1`;
    assert.equal(await root.run('sh', '-c', script), '');
    await root.run('systemctl', 'enable', 'xen-blockd');
  },
  'apt upgrade keeps what the operator has written': async ({ root, second }) => {
    const path = root.path('etc/xen-blockd.toml');
    writeFileSync(path, `${readFileSync(path, 'utf8')}types = ["vbd3"]\n`);
    await aptInstall(root, second.path);
    assert.equal(await root.run('dpkg-query', '--show', 'xen-blockd'), `xen-blockd\t${second.version}\n`);
    assert.match(readFileSync(path, 'utf8'), /vbd3/);
    assert.match(await root.run('systemctl', 'is-enabled', 'xen-blockd'), /^enabled/);
  },
  'apt purge leaves nothing': async ({ root, before }) => {
    await root.run('mkdir', '-p', '/run/xen-blockd/journal');
    await root.run('apt-get', '-q', '-y', 'remove', 'xen-blockd');
    assert.match(readFileSync(root.path('etc/xen-blockd.toml'), 'utf8'), /vbd3/);
    await root.run('apt-get', '-q', '-y', 'purge', 'xen-blockd');
    const left = (await allFiles(root)).filter((path) => !before.has(path));
    assert.deepEqual(left, []);
  },
};

await runMain(async () => {
  const { values: options } = readArguments(USAGE, { 'with-node': flag, 'no-setup': flag });
  if (process.getuid() !== 0) throw new StepError('test:deb', 'needs root, for debootstrap and chroot');
  await install('test:deb', DEBIAN.deb, { say: sayOnStderr });
  if (!options['no-setup']) await setup(sayOnStderr);
  const withNode = options['with-node'];
  const out = mkdtempSync(join(tmpdir(), 'xen-blockd-deb-'));
  const root = await DebianRoot.make(withNode ? 'bookworm' : 'trixie', withNode ? [] : ['nodejs'], sayOnStderr);
  try {
    await runSteps({ root, ...(await versions(out, withNode)), before: new Set(await allFiles(root)) });
  } finally {
    root.remove();
    rmSync(out, { recursive: true });
  }
});

/** Two versions, each in a folder of its own, and how another is made. */
async function versions(out, withNode) {
  const date = await sourceDate();
  const build = (version) =>
    buildDeb({ out: mkdtempSync(join(out, 'build-')), architecture: process.arch, version, date, withNode });
  return { first: await build('1.0.0~first'), second: await build('1.0.0~second'), build };
}

async function runSteps(context) {
  for (const [name, step] of Object.entries(STEPS)) {
    const began = performance.now();
    await step(context);
    console.log(`ok    ${name} (${seconds(began)})`);
  }
  console.log(`${Object.keys(STEPS).length} passed`);
}

async function aptInstall(root, path) {
  copyFileSync(path, root.path(`tmp/${basename(path)}`));
  const options = ['-q', '-y', '--no-install-recommends', '-o', 'Dpkg::Options::=--force-confdef'];
  await root.run('apt-get', ...options, 'install', `/tmp/${basename(path)}`);
}

/** The version in the package's own package.json. */
function programVersion(root) {
  return JSON.parse(readFileSync(root.path('usr/lib/xen-blockd/package.json'), 'utf8')).version;
}

async function allFiles(root) {
  const text = await root.run('find', '/', '-xdev', '-path', '/proc', '-prune', '-o', '-print');
  return text.split('\n').filter((path) => path !== '' && !NOT_OURS.test(path));
}
