/** A mapped page of a request: where it is for the engine. */
export interface MappedPage {
  readonly region: number;
  /** Bytes into the region. */
  readonly offset: number;
}
