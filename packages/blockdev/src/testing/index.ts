export { type Piece, QueueDriver } from './queue-driver.js';
export { type EngineSubject, type TestFramework, testEngine } from './suite.js';
