import { BlockdError } from '../errors.js';

/** ERR_IMAGE: a target that is not served. */
export function refusal(target: string, reason: string): BlockdError {
  return new BlockdError('ERR_IMAGE', 'open image', `${target}: ${reason}`, { path: target });
}
