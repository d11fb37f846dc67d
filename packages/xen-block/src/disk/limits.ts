/** What may be offered to frontends. */
export interface ProtocolLimits {
  /** Rings of up to 2^order pages. 4, as much as Linux uses. */
  readonly maxRingPageOrder: number;
  /** Rings of one disk. */
  readonly maxQueues: number;
  /** Segments of an indirect request, up to 4096; 0 for none. 256, as Linux. */
  readonly maxIndirectSegments: number;
}
