import type { DeviceAddress } from '@xenpv/xenbus';

/** The class of a disk's frontend, whatever its backend is. */
export const FRONTEND_TYPE = 'vbd';

/** `params` as libxl writes it, which `parseParams` reads: the format, but for a raw image of type vbd. */
export function paramsOf({ type }: Pick<DeviceAddress, 'type'>, image: string, format: string): string {
  if (image === '') return '';
  if (format !== 'raw') return `${format}:${image}`;
  return type === 'vbd' ? image : `aio:${image}`;
}
