export { type TestDomain, type TestDomains, type TestFramework, testProvider } from './suite.js';
