/** The native provider: the suite that the emulator passes too, over dom0's devices; and what a daemon says without them. */
import { MAIN, SUITES } from '../dom0/paths.mjs';
import { group, test } from '../dom0/registry.mjs';
import { run } from '../dom0/run.mjs';
import { CommandError, sh } from '../dom0/shell.mjs';

/** Runs a command that must end with `code` and print `pattern`. */
async function fails(command, code, pattern) {
  const error = await sh(command, { timeout: 90 }).then(
    (output) => new Error(`ended with 0:\n${output}`),
    (failure) => failure,
  );
  if (!(error instanceof CommandError) || error.code !== `exit code ${code}`) throw error;
  if (!pattern.test(error.output)) throw new Error(`no ${pattern} in:\n${error.output}`);
}

group('native provider', {}, [
  test('passes the provider suite in dom0', async () => {
    const output = await sh(`node ${SUITES}/provider.mjs 0 2>&1`, { timeout: 240 });
    return output.trim().split('\n').at(-1);
  }),
  test('the xenstore client passes its suite over the real xenstored', async () => {
    const output = await sh(`node ${SUITES}/xenstore.mjs ${run.xen} 2>&1`, { timeout: 280 });
    return output.trim().split('\n').at(-1);
  }),
  test('a machine is found fit to serve', async () => {
    await sh(`node ${MAIN} check`, { timeout: 90 });
  }),
  test('xenstored that is not there is named, with exit code 69', () =>
    fails(`XENSTORED_PATH=/tmp/no-socket node ${MAIN} run --no-control-socket`, 69, /no-socket/)),
  test('a device that is not there is named, with exit code 69', async () => {
    await sh('mv /dev/xen/gntdev /dev/xen/gntdev.away');
    try {
      await fails(`node ${MAIN} run --no-control-socket`, 69, /gntdev/);
    } finally {
      await sh('mv /dev/xen/gntdev.away /dev/xen/gntdev');
    }
  }),
]);
