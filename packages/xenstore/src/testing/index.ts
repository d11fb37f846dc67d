export { type ClientCase, clientCases, runClientCase } from './client-cases.js';
export { type KnownDifference, knownDifferences } from './conformance/differences.js';
export {
  type ConformanceCase,
  type ConformanceResult,
  checkConformanceCase,
  conformanceCases,
  runConformanceCase,
} from './conformance/run.js';
export type { ConformanceTarget, Scene, ServerKind } from './conformance/scene.js';
export { type GenuineKind, GenuineServer } from './genuine-server/genuine-server.js';
