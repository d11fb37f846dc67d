import { QmpError } from '@xenpv/qmp';

/** For commands that take a disk by one of several names, as QEMU's do. Error: none or more than one is given. */
export function oneName(names: { readonly [name: string]: string | undefined }): string {
  const given = Object.values(names).filter((name) => name !== undefined);
  if (given.length === 1) return given[0] as string;
  const all = Object.keys(names).map((name) => `'${name}'`);
  throw QmpError.refusal(given.length === 0 ? `one of ${all.join(', ')} is needed` : `only one of ${all.join(', ')}`);
}
