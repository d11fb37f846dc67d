import { nbdClient } from './nbd/client.js';
import { nbdReplies } from './nbd/replies.js';
import { nbdServer } from './nbd/server.js';
import { qmpClient } from './qmp-client.js';
import { qmpServer } from './qmp-server.js';
import type { Target } from './target.js';
import { xenstoreWire } from './xenstore-wire.js';

export const TARGETS: readonly Target[] = [nbdClient, nbdReplies, nbdServer, qmpClient, qmpServer, xenstoreWire];
