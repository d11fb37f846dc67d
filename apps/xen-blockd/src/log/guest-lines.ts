/** Lines about the disks of a guest. */
export interface GuestLineCounts {
  readonly written: number;
  readonly suppressed: number;
}

interface Counts {
  written: number;
  suppressed: number;
  readonly subjects: Set<string>;
}

const NONE: GuestLineCounts = { written: 0, suppressed: 0 };

/** Counts lines of the log by the guest whose disk they are about, as long as it has one. */
export class GuestLines {
  readonly #guests = new Map<number, Counts>();

  of(domid: number): GuestLineCounts {
    return this.#guests.get(domid) ?? NONE;
  }

  count(subject: string, domid: number, written: boolean): void {
    let counts = this.#guests.get(domid);
    if (!counts) {
      counts = { written: 0, suppressed: 0, subjects: new Set() };
      this.#guests.set(domid, counts);
    }
    counts.subjects.add(subject);
    if (written) counts.written++;
    else counts.suppressed++;
  }

  /** The disk is gone. */
  forget(subject: string): void {
    const domid = domidOf(subject);
    const counts = domid === undefined ? undefined : this.#guests.get(domid);
    if (domid === undefined || !counts?.subjects.delete(subject) || counts.subjects.size > 0) return;
    this.#guests.delete(domid);
  }
}

/** Of the guest that has the disk `qdisk-5-51712`; undefined for what is none, such as an image's path. */
export function domidOf(subject: string | undefined): number | undefined {
  const [, domid] = /^\w+-(\d+)-\d+$/.exec(subject ?? '') ?? [];
  return domid === undefined ? undefined : Number(domid);
}
