import type { QmpClient } from '@xenpv/qmp';
import { EXPORT } from '../arguments.js';

/** QEMU's BlockDirtyInfo: which parts of an image were written to since some instant. */
export interface DirtyBitmap {
  readonly name?: string;
  /** Bytes that are dirty. */
  readonly count: number;
  /** Bytes that one of its bits stands for. */
  readonly granularity: number;
  readonly recording: boolean;
  readonly busy: boolean;
  readonly persistent: boolean;
  /** Its image was not closed in order, so that it says nothing; it can only be removed. */
  readonly inconsistent?: boolean;
}

/** Those of a helper's image. Errors: QmpError. */
export async function bitmapsIn(monitor: QmpClient): Promise<readonly DirtyBitmap[]> {
  const nodes = (await monitor.execute('query-named-block-nodes', { flat: true })) as NodeWithBitmaps[];
  return nodes.find((node) => node['node-name'] === EXPORT)?.['dirty-bitmaps'] ?? [];
}

interface NodeWithBitmaps {
  readonly 'node-name': string;
  readonly 'dirty-bitmaps'?: readonly DirtyBitmap[];
}
