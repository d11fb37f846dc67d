import { QmpError } from '@xenpv/qmp';

/** QEMU's rule for ids: of devices, jobs and exports. */
export function isQemuId(id: string): boolean {
  return /^[A-Za-z][A-Za-z0-9._-]*$/.test(id);
}

/** Whether disks of these types have such names by themselves. */
export function isNameOfDisk(name: string, types: readonly string[]): boolean {
  const [, type] = /^([a-z0-9]+)-\d+-\d+$/.exec(name) ?? [];
  return type !== undefined && types.includes(type);
}

/** The names that clients gave to disks they added; every disk has a name of its own besides. */
export class DeviceIds {
  readonly #devices = new Map<string, string>();

  /** Those of disks that are about to be there. */
  readonly #adding = new Set<string>();

  /** Until the result is disposed of nobody else adds a disk by that id. Error: QmpError, it is none, or is taken. */
  adding(id: string, types: readonly string[]): Disposable {
    if (!isQemuId(id)) throw QmpError.refusal(`Invalid device ID '${id}'`);
    // It would be another disk that is named so by everybody else.
    if (isNameOfDisk(id, types)) throw QmpError.refusal(`id '${id}': disks have such names by themselves`);
    if (this.has(id) || this.#adding.has(id)) throw QmpError.refusal(`Duplicate device ID '${id}'`);
    this.#adding.add(id);
    return { [Symbol.dispose]: () => void this.#adding.delete(id) };
  }

  has(id: string): boolean {
    return this.#devices.has(id);
  }

  add(id: string, device: string): void {
    this.#devices.set(id, device);
  }

  /** The disk's own name; a name that no client gave is one. */
  deviceOf(id: string): string {
    return this.#devices.get(id) ?? id;
  }

  /** What the client called it, or its own name. */
  idOf(device: string): string {
    for (const [id, name] of this.#devices) if (name === device) return id;
    return device;
  }

  /** The disk is gone. */
  remove(device: string): void {
    for (const [id, name] of this.#devices) if (name === device) this.#devices.delete(id);
  }
}
