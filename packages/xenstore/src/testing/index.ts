export type { ClientCase, OpenClient } from './client/case.js';
export { clientCases, runClientCase } from './client/run.js';
export type { ConformanceCase } from './conformance/case.js';
export { type KnownDifference, knownDifferences } from './conformance/differences.js';
export {
  type ConformanceResult,
  checkConformanceCase,
  conformanceCases,
  runConformanceCase,
} from './conformance/run.js';
export type { ConformanceTarget, Guest, Scene, ServerKind } from './conformance/scene.js';
export type { WireConnection } from './conformance/wire-connection.js';
export { type GenuineKind, GenuineServer } from './genuine-server/genuine-server.js';
