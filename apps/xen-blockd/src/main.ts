#!/usr/bin/env node
import { closeInspector } from './signals.js';

// All else is loaded after the signals are ours.
const { main } = await import('./program.js');
closeInspector();
await main();
