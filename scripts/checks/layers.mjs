/**
 * What may import what: an arrow goes down, never up, never sideways, never in a circle. `npm test` holds the code to it.
 */

/** The packages of this workspace that each package's production code may import. docs/architecture.md draws them. */
export const PACKAGES = {
  ring: [],
  blkif: ['ring'],
  nbd: [],
  qmp: [],
  'xen-sys': [],
  xenstore: ['xen-sys'],
  xenbus: ['xenstore', 'xen-sys'],
  xenstored: ['xenstore', 'xen-sys', 'ring'],
  blockdev: ['nbd', 'xen-sys'],
  'xen-block': ['xenbus', 'xenstore', 'xen-sys', 'blkif', 'ring', 'blockdev'],
  blkfront: ['xenbus', 'xenstore', 'xen-sys', 'blkif', 'ring'],
  emulator: ['xenstored', 'xenbus', 'xenstore', 'xen-sys', 'blkif', 'ring'],
};

/**
 * Inside a package: a line a floor, from the top. A floor's rooms, folders or files of src/, do not import each other;
 * names joined by a space are one room. `testing/` lies above all, beside `index.ts`.
 */
export const FLOORS = {
  'packages/xen-sys': [
    ['faulty'],
    ['native'],
    ['xenstore'],
    ['posix'],
    ['addon'],
    [
      'provider.ts event-channels.ts foreign-memory.ts grant-allocator.ts grant-copy.ts grant-table.ts xenstore-transport.ts',
    ],
    ['errors.ts errno.ts numbers.ts', 'package-root.ts', 'abort.ts'],
  ],
  'packages/xenstore': [['cli'], ['tree'], ['client'], ['wire'], ['errors.ts diagnostics.ts', 'package-root.ts']],
  'packages/xenstored': [
    ['xenstored.ts'],
    ['interceptors.ts'],
    ['ports', 'requests'],
    ['connection'],
    ['watches'],
    ['tree'],
  ],
  'packages/xenbus': [
    ['scaffold', 'frontend'],
    ['bus.ts', 'link'],
    ['backend-device.ts'],
    ['connected-keys.ts', 'error-nodes'],
    ['handler holding toolstack device-nodes.ts diagnostics.ts'],
    ['guests', 'waiting', 'own-domid.ts', 'life.ts'],
    ['reducer.ts'],
    ['errors.ts', 'paths.ts', 'states.ts'],
  ],
  'packages/emulator': [
    ['host.ts', 'attach.ts'],
    ['control', 'faults', 'join.ts', 'strict-memory.ts', 'seed'],
    ['domain.ts'],
    ['guest-console.ts'],
    ['toolstack', 'provider.ts'],
    ['threads', 'processes', 'handles'],
    ['machine'],
    ['errors.ts', 'lines.ts', 'layers.ts', 'package-root.ts'],
  ],
  'packages/blockdev': [
    ['attach.ts'],
    ['wrappers', 'nbd', 'file', 'memory'],
    ['locks'],
    ['uring'],
    ['queue'],
    ['extents.ts'],
    ['block-image.ts errors.ts geometry.ts addon.ts diagnostics.ts package-root.ts'],
  ],
  'packages/xen-block': [
    ['backend.ts'],
    ['options.ts'],
    ['disk'],
    ['hosts'],
    ['plane'],
    ['limits'],
    ['errors.ts diagnostics.ts disk-description.ts', 'within.ts'],
    ['rate-limits.ts', 'package-root.ts'],
  ],
  'packages/xen-block/src/plane': [
    ['data-plane.ts'],
    ['watchdog.ts'],
    ['pass.ts'],
    ['at-rest.ts', 'rest.ts', 'recovery.ts'],
    ['requests'],
    ['fairness'],
    ['rings'],
    ['transfer', 'journal', 'pace', 'accounting', 'trace'],
    ['grown.ts'],
  ],
  'packages/blkfront': [
    ['blkfront.ts'],
    ['connection.ts handshake.ts'],
    ['tools'],
    ['rings'],
    ['options.ts errors.ts'],
  ],
  'packages/nbd': [
    ['server', 'status-client.ts'],
    ['client-negotiation.ts'],
    ['conversation.ts', 'reader.ts', 'disk.ts'],
    ['protocol'],
    ['errors.ts'],
  ],
  'packages/qmp': [['server', 'client'], ['schema'], ['wire'], ['errors.ts']],
  'apps/xen-blockd': [
    ['main.ts'],
    ['program.ts'],
    ['cli'],
    ['embedded'],
    ['demo', 'device-model'],
    ['daemon'],
    ['control'],
    ['images'],
    ['status', 'log', 'privileges', 'provider'],
    ['unix-socket.ts', 'listen-address.ts', 'tools.ts', 'cleanup.ts', 'proc.ts'],
    ['errors.ts', 'package-root.ts', 'signals.ts', 'code-cache.ts', 'deadline.ts'],
    ['early-stop.ts'],
  ],
};

/** The most production files a folder has, so that it can be seen at once. */
export const FILES_A_FOLDER = 13;
