import { XenSysError } from '@xenpv/xen-sys';

/** The errno numbers of Linux that the emulator answers with. */
export const Errno = {
  ESRCH: 3,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EINVAL: 22,
  ENOSPC: 28,
} as const;

/** A failed set-up operation, as the native provider would report it. */
export function failed(code: keyof typeof Errno, op: string, message: string): XenSysError {
  return new XenSysError(code, op, message, { errno: Errno[code] });
}

/** An operation on a handle that is closed already. */
export function closed(op: string): XenSysError {
  return new XenSysError('ERR_CLOSED', op, 'the handle is closed');
}
