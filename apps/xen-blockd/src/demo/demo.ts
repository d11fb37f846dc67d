import { type EmulatedDomain, EmulatedHost } from '@xenpv/emulator';
import { backendPath } from '@xenpv/xenbus';
import { XenstoreClient } from '@xenpv/xenstore';
import { Cleanup } from '../cleanup.js';
import { Daemon } from '../daemon/daemon.js';
import { StopSignal } from '../daemon/stop-signal.js';
import { ExitCode } from '../errors.js';
import { createLogger } from '../log/logger.js';
import { NO_PROGRESS, type Progress, progressOn } from '../status/progress.js';
import { prepareSocketPath } from '../unix-socket.js';
import { GuestThread } from './guest-thread.js';
import { HandshakeTrace } from './handshake.js';
import { findImage, makeImage } from './image.js';
import type { DemoOptions } from './options.js';
import { type DemoReporter, type GuestReport, jsonReporter, textReporter } from './report.js';

const TYPE = 'qdisk';
const GUEST_MIB = 64;

interface DemoGuest {
  readonly thread: GuestThread;
  readonly report: GuestReport;
  readonly domain: EmulatedDomain;
}

/**
 * Serves an image to guests on an embedded Xen host, and each guest reads all of it and says its SHA-256; with --nbd the
 * guest lends its disk until a signal comes. Then the disks are detached. The backend is the daemon's ordinary code, the
 * guests run on threads of their own, and nothing leaves this process but the sockets that were asked for. An image that
 * was named is never written without --writable. Resolves with the exit code. Errors: BlockdError.
 */
export async function runDemo(options: DemoOptions): Promise<number> {
  const cleanup = new Cleanup();
  const stop = cleanup.use(new StopSignal('SIGHUP'));
  try {
    const demo = new Demo(options, stop, cleanup);
    await demo.run();
    if (!stop.received || options.nbd !== undefined) return ExitCode.ok;
    process.stderr.write(`xen-blockd: stopped by ${stop.received} before the guests were done\n`);
    return ExitCode.failure;
  } finally {
    await cleanup[Symbol.asyncDispose]();
  }
}

class Demo {
  readonly #options: DemoOptions;
  readonly #stop: StopSignal;
  readonly #cleanup: Cleanup;
  readonly #bar: Progress;
  readonly #reporter: DemoReporter;
  readonly #guests: DemoGuest[] = [];

  constructor(options: DemoOptions, stop: StopSignal, cleanup: Cleanup) {
    this.#options = options;
    this.#stop = stop;
    this.#cleanup = cleanup;
    this.#bar = cleanup.use(options.json || options.nbd !== undefined ? NO_PROGRESS : progressOn(process.stderr));
    const out = (text: string) => {
      this.#bar.clear();
      process.stdout.write(text);
    };
    const aside = (text: string) => void process.stderr.write(text);
    this.#reporter = options.json ? jsonReporter(out, aside) : textReporter(out);
  }

  async run(): Promise<void> {
    const { readOnly, vdev, devid, guests } = this.#options;
    const image = await this.#openImage();
    const host = await this.#startHost();
    const store = this.#cleanup.use(XenstoreClient.open(await host.provider(0).connectXenstore()));
    const daemon = this.#cleanup.use(
      await Daemon.start({
        provider: host.provider(0),
        store: XenstoreClient.open(await host.provider(0).connectXenstore()),
        types: [TYPE],
        logger: createLogger('warn', 'text').logger,
      }),
    );
    const mode = readOnly ? 'read-only' : 'writable';
    this.#reporter.line(`xen-blockd serves ${image.description} (${image.path}), ${mode}, as ${vdev} (${devid})`);
    for (let number = 1; number <= guests; number++) {
      await this.#startGuest(host, store, `guest${number}`, image.path);
    }
    await this.#untilStopped(Promise.all(this.#guests.map((guest) => this.#follow(guest))));
    await this.#detach(host, daemon);
    this.#reporter.end({ image: image.path, readOnly, vdev, devid, abi: this.#options.abi }, this.#reports());
  }

  async #openImage() {
    const { image, readOnly } = this.#options;
    if (image !== undefined) return findImage(image, { readOnly });
    return this.#cleanup.use(await makeImage((text) => process.stderr.write(`xen-blockd: ${text}\n`)));
  }

  async #startHost(): Promise<EmulatedHost> {
    const { nbd, xenstore } = this.#options;
    for (const path of [nbd, xenstore]) if (path !== undefined) await prepareSocketPath(path);
    const host = this.#cleanup.use(await EmulatedHost.create());
    if (xenstore !== undefined) {
      await host.xenstored.listen(xenstore);
      this.#reporter.line(`xenstored ready ${xenstore}`);
    }
    return host;
  }

  async #startGuest(host: EmulatedHost, store: XenstoreClient, name: string, image: string) {
    const { vdev, devid, readOnly, abi, ringPageOrder, nbd } = this.#options;
    const domain = await host.createDomain({ name, memoryMiB: GUEST_MIB });
    const report: GuestReport = { name, domid: domain.domid, handshake: [] };
    const paths = {
      backend: backendPath(0, { type: TYPE, domid: domain.domid, devid }),
      frontend: `/local/domain/${domain.domid}/device/vbd/${devid}`,
    };
    this.#cleanup.use(
      await HandshakeTrace.start(store, paths, (step) => {
        report.handshake.push(step);
        this.#reporter.step(report, step);
      }),
    );
    await host.toolstack.attachDisk(domain.domid, { vdev, target: image, backendType: TYPE, readOnly });
    const data = { provider: domain.share(), devid, abi, ringPageOrder, nbd };
    const thread = this.#cleanup.use(new GuestThread(name, data, () => this.#showProgress()));
    this.#guests.push({ thread, report, domain });
  }

  /** From the connection until the guest has done its work. */
  async #follow({ thread, report }: DemoGuest): Promise<void> {
    const { disk } = await thread.message('connected');
    report.disk = disk;
    if (this.#options.nbd !== undefined) return this.#lend(thread, this.#options.nbd);
    const { sha256, milliseconds } = await thread.message('read');
    Object.assign(report, { sha256, milliseconds });
    this.#reporter.read(report, { disk, sha256, milliseconds });
  }

  async #lend(thread: GuestThread, socket: string): Promise<void> {
    await thread.message('nbd-ready');
    this.#reporter.line(`nbd ready ${socket}`);
    // A guest that fails meanwhile ends the demo too.
    await Promise.race([this.#stop.wait(), thread.message('detached')]);
    thread.tell('close-nbd');
    await thread.message('nbd-closed');
  }

  /** With --nbd a signal is the ordinary end, which `#lend` waits for itself. */
  async #untilStopped(work: Promise<unknown>): Promise<void> {
    if (this.#options.nbd !== undefined) return void (await work);
    await Promise.race([work, this.#stop.wait()]);
    work.catch(() => undefined);
  }

  /** As `xl block-detach` does; the guests' frontends follow their backends. */
  async #detach(host: EmulatedHost, daemon: Daemon): Promise<void> {
    const { vdev, devid } = this.#options;
    for (const { thread, report, domain } of this.#guests) {
      if (this.#stop.received && report.sha256 === undefined && this.#options.nbd === undefined) continue;
      report.statistics = daemon.statistics({ type: TYPE, domid: report.domid, devid });
      this.#reporter.statistics(report, report.statistics);
      await host.toolstack.detachDisk(report.domid, vdev);
      await thread.message('detached');
      await thread.exited;
      const { grants, mapped, ports } = domain.usage();
      report.left = { grants, mapped, ports };
      this.#reporter.detached(report, report.left);
    }
  }

  #showProgress(): void {
    const sizes = this.#guests.map(({ report }) => report.disk?.size ?? 0);
    const total = Math.max(...sizes) * this.#options.guests;
    const done = this.#guests.reduce((sum, { thread }) => sum + thread.bytesRead, 0);
    if (total > 0) this.#bar.update(done, total);
  }

  #reports(): GuestReport[] {
    return this.#guests.map(({ report }) => report);
  }
}
