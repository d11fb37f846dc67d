export { type EngineSubject, type TestFramework, testEngine } from './conformance.js';
export { type Piece, QueueDriver } from './queue-driver.js';
