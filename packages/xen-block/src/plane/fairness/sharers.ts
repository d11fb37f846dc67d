import type { BlockRing } from '../rings/ring.js';

/** A guest with rings on this data plane. */
export interface Guest {
  readonly domid: number;
  /** Never used again: a domain that gets the domid of one that is gone is another guest. */
  readonly number: number;
  rings: number;
  /** Bytes of memory that its requests have. */
  held: number;
  /** Its rings with requests that wait, and which of them is next. */
  readonly waiting: BlockRing[];
  next: number;
  /** What it was given of its turn, and in which turn that was. */
  spent: number;
  turn: number;
  /** In the same way what of its ended requests was answered, and how many requests were taken. */
  answered: number;
  answerTurn: number;
  taken: number;
  /** Its large requests whose data is being copied. */
  readonly copiesIn: Copies;
  readonly copiesOut: Copies;
}

/** Rows of large requests, and how many segments of the first are copied. */
interface Copies {
  readonly rows: number[];
  done: number;
}

/** A disk with rings on this data plane. */
export interface Disk {
  readonly name: string;
  readonly guest: Guest;
  rings: number;
  held: number;
  /** Bytes that it may hold, whatever others do: those of its largest request. */
  guarantee: number;
}

/** Who shares a data plane: guests, their disks, and the rings of these. */
export class Sharers {
  /** There is one disk at most: nobody to be fair to. */
  alone = true;
  readonly #guests = new Map<number, Guest>();
  readonly #disks = new Map<string, Disk>();
  /** By ring index. */
  readonly #byRing: Disk[] = [];
  #nextNumber = 0;

  /** `guarantee`: bytes of the ring's largest request. */
  open(ring: BlockRing, guarantee: number): void {
    const disk = this.#disks.get(ring.disk) ?? this.#addDisk(ring);
    disk.rings++;
    disk.guest.rings++;
    disk.guarantee = Math.max(disk.guarantee, guarantee);
    this.#byRing[ring.index] = disk;
    this.alone = this.#disks.size < 2;
  }

  /** Nothing of the ring is pending. Says whether it was its guest's last one. */
  close(ring: BlockRing): boolean {
    const disk = this.diskOf(ring);
    if (--disk.rings === 0) this.#disks.delete(disk.name);
    this.alone = this.#disks.size < 2;
    return --disk.guest.rings === 0 && this.#guests.delete(disk.guest.domid);
  }

  diskOf(ring: BlockRing): Disk {
    return this.#byRing[ring.index];
  }

  guestOf(ring: BlockRing): Guest {
    return this.#byRing[ring.index].guest;
  }

  /** Bytes that all disks, and that all guests hold: both the same. */
  get held(): { readonly byDisks: number; readonly byGuests: number } {
    return { byDisks: sumOfHeld(this.#disks), byGuests: sumOfHeld(this.#guests) };
  }

  #addDisk(ring: BlockRing): Disk {
    const guest = this.#guests.get(ring.domid) ?? this.#addGuest(ring.domid);
    const disk = { name: ring.disk, guest, rings: 0, held: 0, guarantee: 0 };
    this.#disks.set(ring.disk, disk);
    return disk;
  }

  #addGuest(domid: number): Guest {
    const guest: Guest = {
      domid,
      number: this.#nextNumber++,
      rings: 0,
      held: 0,
      waiting: [],
      next: 0,
      spent: 0,
      turn: 0,
      answered: 0,
      answerTurn: 0,
      taken: 0,
      copiesIn: { rows: [], done: 0 },
      copiesOut: { rows: [], done: 0 },
    };
    this.#guests.set(domid, guest);
    return guest;
  }
}

function sumOfHeld(sharers: ReadonlyMap<unknown, { readonly held: number }>): number {
  let sum = 0;
  for (const { held } of sharers.values()) sum += held;
  return sum;
}
