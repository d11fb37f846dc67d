import { spawnSync } from 'node:child_process';
import { needs } from '@xenpv/test-support';
import { describe, expect } from 'vitest';
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

const X86 = process.arch === 'x64' ? 'cc' : 'x86_64-linux-gnu-gcc';
const ARM = process.arch === 'arm64' ? 'cc' : 'aarch64-linux-gnu-gcc';

function compile(compiler: string, options: readonly string[], source: string) {
  const args = [...options, '-ffreestanding', '-fsyntax-only', '-x', 'c', '-'];
  return spawnSync(compiler, args, { input: source, encoding: 'utf8' });
}

describe.each([
  ['x86_32', '-m32'],
  ['x86_64', '-m64'],
] as const)('%s', (name, machine) => {
  needs(X86).it('has the layout that a C compiler gives it', () => {
    expect(compile(X86, [machine], STRUCTURES + assertions(ABIS[name])).stderr).toBe('');
  });
});

needs(ARM).it('arm has the layout that a C compiler gives it', () => {
  expect(compile(ARM, [], STRUCTURES + assertions(ABIS.arm)).stderr).toBe('');
});
