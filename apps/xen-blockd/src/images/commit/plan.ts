/** What is committed into what: which layers of a chain, and whether that is possible. */
import { realpathSync, statSync } from 'node:fs';
import { dirname, isAbsolute, resolve } from 'node:path';
import { QmpError } from '@xenpv/qmp';
import { nameInHeader } from '../chain/chain.js';
import { refusal } from '../refusal.js';
import { nodeOfLayer } from '../storage-daemon/arguments.js';
import type { ImageLayer } from '../storage-daemon/storage-daemon.js';

/** As QEMU's clients say it: files, or names of nodes. */
export interface CommitRequest {
  /** The lowest layer by default. */
  readonly base?: string | undefined;
  /** The image itself by default. */
  readonly top?: string | undefined;
}

export interface CommitPlan {
  /** Depths: what is in the layers from `top` on is written into `base`. 0 is the image itself. */
  readonly top: number;
  readonly base: number;
  /** The file of the base, links followed. */
  readonly file: string;
  /** As the layer above `top` is to name the base; undefined for the image itself, whose place the base takes. */
  readonly name: string | undefined;
  /** That layer's file. */
  readonly overlay: string | undefined;
}

/** Errors: QmpError, there is no such layer; ERR_IMAGE, the base cannot take the image's place. */
export function planCommit(layers: readonly ImageLayer[], { base, top }: CommitRequest): CommitPlan {
  if (layers.length < 2) throw QmpError.refusal('the image has no backing file: there is nothing to commit it into');
  const [image] = layers;
  const above = top === undefined ? 0 : depthOf(layers, top, 'top');
  const below = base === undefined ? layers.length - 1 : depthOf(layers, base, 'base');
  if (above === below) throw QmpError.refusal('cannot commit an image into itself');
  if (above > below) throw QmpError.refusal(`${layers[below].path} is above ${layers[above].path}, not below it`);
  const file = realpathSync(layers[below].path);
  if (above === 0) {
    checkPlace(image, layers[below], { file, isLowest: below === layers.length - 1 });
    return { top: above, base: below, file, name: undefined, overlay: undefined };
  }
  const overlay = layers[above - 1].path;
  const name = nameInHeader(layers[below].path, overlay);
  return { top: above, base: below, file, name, overlay };
}

/** The base gets the image's own name, where everybody expects the image's format. */
function checkPlace(
  image: ImageLayer,
  base: ImageLayer,
  { file, isLowest }: { file: string; isLowest: boolean },
): void {
  const { path } = image;
  const refused = (reason: string, advice: string) => refusal(path, `the base ${base.path} ${reason}; ${advice}`);
  const advice = 'give a base that is not it, or stop the guest and use qemu-img commit';
  if (base.driver !== image.driver) {
    throw refused(`is of format ${base.driver}, and would get the name of an image of format ${image.driver}`, advice);
  }
  const [own, found] = [statSync(path), statSync(file)];
  if (!own.isFile() || !found.isFile())
    throw refused('or the image is a block device, which has no other name', advice);
  if (own.dev !== found.dev) throw refused('is on another file system than the image, whose name it would get', advice);
  if (!isLowest && dirname(file) !== dirname(realpathSync(path))) {
    throw refused(
      'is in another folder than the image, and has a backing file, whose name would be another one',
      advice,
    );
  }
}

function depthOf(layers: readonly ImageLayer[], name: string, what: 'base' | 'top'): number {
  const image = layers[0].path;
  // As in a header, or as a person in the image's folder would say it.
  const wanted = isAbsolute(name) ? name : resolve(dirname(image), name);
  const depth = layers.findIndex((layer, i) => nodeOfLayer(i) === name || isOneFile(layer.path, wanted));
  if (depth >= 0) return depth;
  const known = layers.map(({ path }) => path).join(', ');
  throw QmpError.refusal(`the ${what} ${name} is not found; the image is made of ${known}`);
}

function isOneFile(one: string, other: string): boolean {
  return one === other || tryReal(one) === tryReal(other);
}

function tryReal(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}
