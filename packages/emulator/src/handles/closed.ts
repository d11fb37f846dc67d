import { XenSysError } from '@xenpv/xen-sys';

/** An operation on a handle that is closed already. */
export function closed(op: string): XenSysError {
  return new XenSysError('ERR_CLOSED', op, 'the handle is closed');
}
