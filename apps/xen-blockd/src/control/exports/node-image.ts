/** Images of nodes that no disk has: opened for an export as a disk would have them, and locked. */
import { QmpError } from '@xenpv/qmp';
import type { DiskConfig } from '@xenpv/xen-block';
import { type LentImage, lentImageOf } from '../../images/lent-image.js';
import type { BlockNode } from '../block-nodes.js';
import type { ControlContext } from '../controlled.js';

/** In the place of a backend's type: no toolstack has such devices. */
const TYPE = 'export';

export interface NodeImage {
  readonly image: LentImage;
  /** The node is free then. */
  readonly close: () => Promise<void>;
}

let opened = 0;

/** Errors: QmpError, something uses the node; as ImageOpener. */
export async function openNodeImage(
  { nodes, openImage }: ControlContext,
  node: BlockNode,
  { id, writable, signal }: { readonly id: string; readonly writable: boolean; readonly signal: AbortSignal },
): Promise<NodeImage> {
  const open = openImage();
  if (!open) throw QmpError.refusal('the daemon is starting', 'DeviceNotActive');
  nodes.open(node.name, `export ${id}`);
  try {
    const whole = await open(configOf(node, writable), { signal });
    const image = lentImageOf(whole);
    if (!image) throw QmpError.refusal(`Node ${node.name} cannot be exported`);
    const close = () => whole.close().finally(() => nodes.close(node.name));
    return { image, close };
  } catch (error) {
    nodes.close(node.name);
    throw error;
  }
}

function configOf({ filename: target, format }: BlockNode, writable: boolean): DiskConfig {
  opened++;
  return {
    address: { type: TYPE, domid: 0, devid: opened },
    // Nobody shares an image's lock with it.
    ...{ vdev: `export ${opened}`, vm: `export ${opened} of process ${process.pid}`, deviceType: 'disk' },
    ...{ target, format, readOnly: !writable, shared: false, direct: false, discard: true, incoming: false },
    ...{ onError: undefined, limits: undefined, guestLimits: undefined, paused: undefined },
  };
}
