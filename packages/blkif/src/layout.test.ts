import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { ABIS, type Abi } from './abi.js';
import { MAX_INDIRECT_PAGES, MAX_SEGMENTS, SEGMENTS_PER_INDIRECT_PAGE } from './protocol.js';
import { SEGMENT_WORDS } from './segment.js';

/*
 * The offsets, asserted of structures in C as io/blkif.h describes them, and checked by the compiler that lays them
 * out for the ABI's own machine.
 */

const STRUCTURES = `
#include <stddef.h>
#include <stdint.h>
struct segment { uint32_t gref; uint8_t first, last; };
struct request {
    uint8_t operation, nr_segments; uint16_t handle; uint64_t id, sector; struct segment segments[${MAX_SEGMENTS}];
};
struct discard { uint8_t operation, flag; uint16_t handle; uint64_t id, sector, sectors; };
struct indirect {
    uint8_t operation, inner; uint16_t nr_segments; uint64_t id, sector; uint16_t handle;
    uint32_t grefs[${MAX_INDIRECT_PAGES}];
};
struct response { uint64_t id; uint8_t operation; int16_t status; };
union entry { struct request request; struct discard discard; struct indirect indirect; struct response response; };
struct ring { uint32_t req_prod, req_event, rsp_prod, rsp_event; uint8_t pad[48]; union entry entries[1]; };
`;

function assertions(abi: Abi): string {
  const at = (structure: string, field: string, word: number) =>
    `_Static_assert(offsetof(struct ${structure}, ${field}) == ${word * 4}, "${structure}.${field}");`;
  const size = (type: string, bytes: number) => `_Static_assert(sizeof(${type}) == ${bytes}, "${type}");`;
  return [
    size('union entry', abi.slotBytes),
    size('union entry', abi.slotWords * 4),
    size('struct response', abi.responseWords * 4),
    size('struct segment', SEGMENT_WORDS * 4),
    size('struct segment', 4096 / SEGMENTS_PER_INDIRECT_PAGE),
    at('request', 'id', abi.idWord),
    at('request', 'sector', abi.sectorWord),
    at('request', 'segments', abi.segmentsWord),
    at('discard', 'id', abi.idWord),
    at('discard', 'sector', abi.sectorWord),
    at('discard', 'sectors', abi.discardSectorsWord),
    at('indirect', 'id', abi.idWord),
    at('indirect', 'sector', abi.sectorWord),
    at('indirect', 'handle', abi.indirectHandleWord),
    at('indirect', 'grefs', abi.indirectGrefsWord),
    at('indirect', 'nr_segments', 0.5),
    at('ring', 'entries', 16),
    // Both are the third word of a response, whatever the ABI.
    '_Static_assert(offsetof(struct response, operation) == 8 && offsetof(struct response, status) == 10, "response");',
  ].join('\n');
}

function compile(machine: string, source: string) {
  const args = [machine, '-ffreestanding', '-fsyntax-only', '-x', 'c', '-'];
  return spawnSync('cc', args, { input: source, encoding: 'utf8' });
}

describe.each([
  ['x86_32', '-m32'],
  ['x86_64', '-m64'],
] as const)('%s', (name, machine) => {
  const can = process.arch === 'x64' && compile(machine, STRUCTURES).status === 0;

  it.skipIf(!can)(`has the layout that a C compiler gives it (needs cc ${machine})`, () => {
    expect(compile(machine, STRUCTURES + assertions(ABIS[name])).stderr).toBe('');
  });
});

it.skipIf(process.arch !== 'arm64' || compile('-O0', STRUCTURES).status !== 0)(
  "arm has the layout that a C compiler gives it (needs an arm64 machine's cc)",
  () => {
    expect(compile('-O0', STRUCTURES + assertions(ABIS.arm)).stderr).toBe('');
  },
);
