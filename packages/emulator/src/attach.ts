export { attachProvider } from './provider.js';
