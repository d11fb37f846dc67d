/** A Debian root in a folder, in which packages are installed for real. */
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { debianMirror, proxyEnvironment } from '../../e2e/lab/debian.mjs';
import { cacheFolder } from '../lib/cache.mjs';
import { run } from '../lib/steps.mjs';

/** What a dom0 has of what the package meets. */
const PACKAGES = ['systemd', 'man-db', 'bash-completion'];

/** Nothing of the machine's own. */
const ENVIRONMENT = 'PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive';

/** The cached root of a release; made at the first time, which takes some minutes. Error: StepError. */
async function cachedRoot(suite, further, say) {
  const cache = cacheFolder('deb');
  const folder = join(cache, suite);
  if (existsSync(folder)) return folder;
  say(`making a Debian ${suite} (once, some minutes)`);
  mkdirSync(cache, { recursive: true });
  const partial = mkdtempSync(join(cache, 'partial-'));
  try {
    const include = `--include=${[...PACKAGES, ...further].join(',')}`;
    const env = await proxyEnvironment();
    await run('debootstrap', 'debootstrap', ['--variant=minbase', include, suite, partial, debianMirror()], { env });
    // minbase of a container has no manuals; the package's own is to be there.
    rmSync(join(partial, 'etc', 'dpkg', 'dpkg.cfg.d'), { recursive: true, force: true });
    renameSync(partial, folder);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
  return folder;
}

/** A root that may be changed; its changes go with it. */
export class DebianRoot {
  #folder;

  constructor(folder) {
    this.#folder = folder;
  }

  /** Errors: StepError. `further`: packages. */
  static async make(suite, further, say) {
    const cached = await cachedRoot(suite, further, say);
    const folder = mkdtempSync(join(dirname(cached), 'run-'));
    await run('copy of the root', 'cp', ['-a', '--reflink=auto', `${cached}/.`, folder]);
    return new DebianRoot(folder);
  }

  path(name) {
    return join(this.#folder, name);
  }

  /** Runs a program in it, in process and mount namespaces of its own; resolves with what it printed. */
  run(...command) {
    const script = `mount -t proc proc "$0/proc" && exec chroot "$0" env -i ${ENVIRONMENT} "$@"`;
    return run(command.join(' '), 'unshare', [
      '--mount',
      '--pid',
      '--fork',
      'sh',
      '-c',
      script,
      this.#folder,
      ...command,
    ]);
  }

  remove() {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
