/** The names that clients gave to disks they added; every disk has a name of its own besides. */
export class DeviceIds {
  readonly #devices = new Map<string, string>();

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
