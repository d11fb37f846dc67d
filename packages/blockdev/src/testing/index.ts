export type { EngineSubject } from './cases/bench.js';
export { type BlockWrite, DurabilityRecord, type FlushMark } from './durability.js';
export {
  type Misreport,
  type MisreportPlan,
  misreportingImage,
} from './misreporting.js';
export { type Piece, QueueDriver } from './queue-driver.js';
export { type TestFramework, testEngine } from './suite.js';
