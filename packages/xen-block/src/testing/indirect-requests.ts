import type { RawQueue, RawResponse } from '@xenpv/blkfront/testing';
import { encodeSegment, RequestWriter, SEGMENT_WORDS } from '@xenpv/blkif';

/**
 * Puts `count` indirect requests of so many whole pages, all of the first sectors and with the same page; sent with the
 * queue's next push.
 */
export function indirects(raw: RawQueue, operation: number, count: number, segments: number): Promise<RawResponse>[] {
  const [list, data] = [raw.page(), raw.page()];
  const words = new Int32Array(list.bytes.buffer, list.bytes.byteOffset, segments * SEGMENT_WORDS);
  for (let i = 0; i < segments; i++) encodeSegment(words, i * SEGMENT_WORDS, data.gref, 0, 7);
  return Array.from({ length: count }, (_, i) => {
    const slot = new Int32Array(raw.abi.slotWords);
    const request = new RequestWriter(slot, raw.abi);
    request.indirect(operation, segments, i + 1, 0, 0);
    request.indirectGref(0, list.gref);
    return raw.put(slot);
  });
}
