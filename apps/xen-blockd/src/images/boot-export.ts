import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type BlockImage, type ImageDisk, ImageWrapper, nbdDiskOf } from '@xenpv/blockdev';
import { NbdServer } from '@xenpv/nbd';
import type { DiskConfig } from '@xenpv/xen-block';
import { deviceName } from '@xenpv/xenbus';
import { listenOnUnixSocket } from '../unix-socket.js';

/**
 * Exports the image over NBD too, on a socket named after the device in `directory`: libxl tells the QEMU of an HVM
 * guest to take its emulated disk from there, for type vbd3, when the hotplug script names the socket. The export ends
 * with the image. Error: ERR_SOCKET; the image stays open then.
 */
export async function exportForBoot(image: BlockImage, config: DiskConfig, directory: string): Promise<BlockImage> {
  const disk = nbdDiskOf(image);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const server = new NbdServer({ [config.vdev]: disk });
  await listenOnUnixSocket(server.listener, join(directory, deviceName(config.address)));
  return new ExportedImage(image, server, disk);
}

class ExportedImage extends ImageWrapper {
  readonly #server: NbdServer;
  readonly #disk: ImageDisk;

  constructor(image: BlockImage, server: NbdServer, disk: ImageDisk) {
    super(image);
    this.#server = server;
    this.#disk = disk;
  }

  protected override async closeOnce(): Promise<void> {
    await this.#server.close();
    await this.#disk[Symbol.asyncDispose]();
    await super.closeOnce();
  }
}
