import { nameThread } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import type { Command } from 'commander';
import { pino } from 'pino';
import { DEFAULTS } from '../daemon/config.js';
import { readDeviceModelArguments } from '../device-model/arguments.js';
import { runDeviceModel } from '../device-model/device-model.js';
import { xenUnavailable } from '../errors.js';
import { openProvider } from '../provider/open-provider.js';

const HELP = `
For PV and PVH guests of dom0 whose disks have backendtype=qdisk: libxl starts this program where it would start a QEMU, by

  device_model_override="/usr/lib/xen-blockd/device-model"

in the guest's configuration, whose disk lines stay as they are. It says that it runs, answers QMP, and ends with the guest.
The daemon must serve the type qdisk (types = ["qdisk"] in its configuration). Framebuffers, keyboards and other devices that
QEMU would have are not there.

libxl's own options, of which -xen-domid and -chardev matter, come after --.

Examples:
  xen-blockd device-model -- -xen-domid 5 -chardev socket,id=libxl-cmd,path=/run/xen/qmp-libxl-5,server=on,wait=off
`;

interface DeviceModelOptions {
  readonly control: string;
  readonly emulator?: string;
}

/** `xen-blockd device-model`: stands in for the QEMU of a guest whose disks are ours. */
export function addDeviceModel(program: Command): void {
  program
    .command('device-model')
    .description("stand in for the QEMU that libxl starts for a guest's qdisk disks")
    .argument('[libxl-options...]', 'what libxl has given its QEMU')
    .option('--control <path>', "the daemon's control socket", DEFAULTS['control-socket'])
    .option('--emulator <dir>', 'the emulated host in this folder, not this machine')
    .addHelpText('after', HELP)
    .action(async (words: readonly string[], { control, emulator }: DeviceModelOptions) => {
      nameThread('xen-blockd-dm');
      const args = readDeviceModelArguments(words);
      const ending = new AbortController();
      for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => ending.abort());
      const provider = await openProvider(emulator);
      const transport = await provider.connectXenstore().catch((error) => {
        throw xenUnavailable('connect to xenstored', error);
      });
      const store = XenstoreClient.open(transport, { reconnect: (options) => provider.connectXenstore(options) });
      try {
        await runDeviceModel({ ...args, store, control, logger: pino({ base: null }), ending: ending.signal });
      } finally {
        await store.close();
      }
    });
}
