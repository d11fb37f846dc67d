export { type EngineSubject, type TestRunner, testEngine } from './conformance.js';
export { type Piece, QueueDriver } from './queue-driver.js';
