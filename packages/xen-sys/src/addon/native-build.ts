import { closeSync, existsSync, openSync, readSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { XenSysError } from '../errors.js';

/** Of node-gyp-build, what finds a build without loading it. */
interface NodeGypBuild {
  path(folder: string): string;
}

/**
 * Loads the native addon of the package `name`, whose folder is `root` ({@link packageFolder}): what node-gyp has built
 * there, or the prebuild for this processor and C library (glibc, musl). Nothing is looked for before it is called, and by
 * Node's own require, so that a bundle neither needs the addon nor takes it in.
 * Errors: ERR_NOT_LINUX; ERR_NO_ADDON there is no build for this machine; ERR_ADDON_LOAD there is one, and it does not load:
 * the message has the loader's words.
 */
export function loadNativeBuild(name: string, root: URL): unknown {
  const folder = fileURLToPath(root);
  if (process.platform !== 'linux') {
    throw loadError('ERR_NOT_LINUX', `the addon of ${name} is for Linux, and this is ${process.platform}`, folder);
  }
  const require = createRequire(new URL('package.json', root));
  const causes: { readonly path: string | undefined; readonly cause: unknown }[] = [];
  // A build made by node-gyp lies beside its binding.gyp.
  for (const place of [folder, join(folder, 'native')]) {
    let path: string | undefined;
    try {
      path = forThisLibrary((require('node-gyp-build') as NodeGypBuild).path(place));
      return require(path);
    } catch (cause) {
      causes.push({ path, cause });
    }
  }
  const advice = `with a C++ compiler, make one: npx node-gyp rebuild --directory ${join(folder, 'native')}`;
  const errors = new AggregateError(causes.map(({ cause }) => cause));
  const refused = causes.find(({ path }) => path !== undefined);
  if (refused?.path === undefined) {
    const message = `no build of the addon for ${machine()} in ${folder}; ${advice}`;
    throw loadError('ERR_NO_ADDON', message, folder, errors);
  }
  const words = String((refused.cause as Error).message).split('\n')[0];
  const message = `the addon of ${name} does not load on ${machine()}: ${words}; ${advice}`;
  throw loadError('ERR_ADDON_LOAD', message, refused.path, errors);
}

/** node-gyp-build takes every Linux for one with glibc but Alpine, and but where LIBC in the environment says `musl`. */
function forThisLibrary(path: string): string {
  const other = path.replace(/\.glibc\.node$/, '.musl.node');
  return other !== path && existsSync(other) && isMusl() ? other : path;
}

/** Where an executable names its loader, with room to spare. */
const HEAD_BYTES = 8192;

/** By the loader that Node names, or that was started with Node as its argument. */
function isMusl(): boolean {
  return process.execPath.includes('/ld-musl-') || headOf(process.execPath).includes('/ld-musl-');
}

/** Empty for a file that is gone: a Node that runs may have been replaced by an upgrade. */
function headOf(path: string): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  try {
    const file = openSync(path, 'r');
    try {
      return head.subarray(0, readSync(file, head));
    } finally {
      closeSync(file);
    }
  } catch {
    return head.subarray(0, 0);
  }
}

function loadError(
  code: 'ERR_NOT_LINUX' | 'ERR_NO_ADDON' | 'ERR_ADDON_LOAD',
  message: string,
  path: string,
  cause?: unknown,
) {
  return new XenSysError(code, 'load', message, { path, cause });
}

/** With the C library: `linux-x64-glibc-2.36`. Node's report takes milliseconds, which is why it is for errors only. */
function machine(): string {
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  const glibc = header.glibcVersionRuntime;
  return `linux-${process.arch}-${glibc === undefined ? 'musl' : `glibc-${glibc}`}`;
}
