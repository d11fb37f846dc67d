import { onTestFinished } from 'vitest';
import { failedChannel, type PlaneFailedEvent, type PlaneRestedEvent, restedChannel } from '../diagnostics.js';

/** What did not hold when the data plane rested, in words; and what it said of itself. */
export function watchPlane(): { readonly broken: string[]; readonly failed: PlaneFailedEvent[] } {
  const broken: string[] = [];
  const failed: PlaneFailedEvent[] = [];
  const onRested = (event: unknown) => {
    const text = (event as PlaneRestedEvent).broken();
    if (text !== undefined) broken.push(text);
  };
  const onFailed = (event: unknown) => failed.push(event as PlaneFailedEvent);
  restedChannel.subscribe(onRested);
  failedChannel.subscribe(onFailed);
  onTestFinished(() => {
    restedChannel.unsubscribe(onRested);
    failedChannel.unsubscribe(onFailed);
  });
  return { broken, failed };
}
