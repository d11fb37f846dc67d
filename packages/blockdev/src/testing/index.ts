export type { EngineSubject } from './cases/bench.js';
export { type Piece, QueueDriver } from './queue-driver.js';
export { type TestFramework, testEngine } from './suite.js';
