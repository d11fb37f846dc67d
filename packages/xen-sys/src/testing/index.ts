export type { TestDomain, TestDomains } from './session.js';
export { type TestFramework, testProvider } from './suite.js';
