export { QmpClient, type QmpClientOptions, type QmpExecuteOptions } from './client/client.js';
export { QmpError, type QmpErrorClass, type QmpErrorCode, type QmpErrorOp } from './errors.js';
export type { QmpArguments, QmpMembers, QmpType, QmpValue } from './schema/types.js';
export { type QmpCommand, type QmpCommandContext, type QmpCommandDefinition, qmpCommand } from './server/command.js';
export { QmpServer, type QmpServerOptions } from './server/server.js';
export type { QmpAnswer, QmpEvent, QmpGreeting, QmpVersion } from './wire/messages.js';
