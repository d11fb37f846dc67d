import { sdNotify } from '@xenpv/xen-sys';
import { errorMessage } from '@xenpv/xenbus';
import type { Logger } from 'pino';

/** A service manager that cannot be reached has its own timeout; serving goes on. */
export function tellServiceManager(state: string, logger: Logger): void {
  try {
    sdNotify(state);
  } catch (error) {
    logger.warn({ reason: errorMessage(error) }, 'the service manager cannot be told');
  }
}
