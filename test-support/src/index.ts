export { type DebianTool, find } from './find.js';
export { type Need, type Needs, needs, working } from './needs.js';
export { boundByPermissions, setpriv, withoutRoot } from './permissions.js';
export { runTool, type ToolOutcome } from './run-tool.js';
