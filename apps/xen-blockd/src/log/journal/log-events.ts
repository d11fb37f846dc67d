/**
 * The kinds of lines that the daemon's log has, and what the journal knows each by: docs/log-events.md is made from this
 * file, which imports nothing. An id never changes, and none is used again.
 */

/** A kind of line. */
export interface LogEvent {
  /** The journal's MESSAGE_ID: 128 random bits. */
  readonly id: string;
  readonly tells: string;
}

/** Of disks. */
export const DISK_EVENTS: Readonly<Record<string, LogEvent>> = {
  'xenbus:device:added': { id: 'a78426e6a18a4f63a1aa3fa559eab1ec', tells: 'A disk was found' },
  'xenbus:device:removed': { id: 'f4fe2d192d1f40ddbf0ecd985d4a5e48', tells: 'A disk is gone' },
  'xenbus:device:state': {
    id: '92e310bff13d43c89f3fa6a27d83d5bb',
    tells: "A disk's state in xenstore is another one now",
  },
  'xenbus:device:error': {
    id: '75f0302492504b0fa91ffcbdbdb9dcca',
    tells: 'A disk cannot be served, or its frontend did something wrong',
  },
  'xenbus:device:held': {
    id: '4401f1f52b144c8cb04ecfea9328a928',
    tells: 'A guest waits, because its disk cannot be served now',
  },
  'xenbus:device:hold-ended': { id: '3708bd1990744d2e81665c6c68cbfe43', tells: 'A disk is held no more' },
  'xenbus:device:orphaned': {
    id: 'f5363999054d4d4ead2870db27908760',
    tells: 'xenstored has lost a disk, which is served on',
  },
  'xenbus:device:known-again': { id: '5782eabbbd7148348abe4096086691a7', tells: 'xenstored knows such a disk again' },
  'xen-block:device:connected': { id: 'daa56e5b14444589a96c3051f433e8bb', tells: 'A frontend is served' },
  'xen-block:device:left': {
    id: 'f70879674ea44e55a3fd770cac63c6eb',
    tells: 'A disk is left to the next process with requests in flight',
  },
  'xen-block:image:awaited': {
    id: 'd7fe37bc8abe432bab85960aae2a7395',
    tells: 'A guest has come from another host, and waits for its image',
  },
  'xen-block:image:wait-ended': {
    id: 'c38bd2e2a79943ac921bb15f66cd2d58',
    tells: 'A guest that has come from another host waits for its image no more',
  },
  'xen-block:device:abandoned': {
    id: 'ac34afdf5ca3411b9ee87e6988470749',
    tells: 'A guest is gone, and its requests are left to storage that hangs',
  },
  'xen-block:device:limited': {
    id: 'c17140c0de624caaa765b05ba0e5a858',
    tells: 'A disk or its guest has other limits now',
  },
  'xen-block:device:resized': { id: 'c560e177b84f497fb4e80c92eee7f007', tells: 'An image has another size now' },
  'xen-block:device:medium': { id: '4b595a6263784e99938ed4cc4473bd50', tells: 'A drive has another medium, or none' },
  'xen-block:device:stopped': {
    id: '198ecf796f834ff5a26505c2d80b0cb3',
    tells: 'An error of the storage has stopped a disk',
  },
  'xen-block:device:resumed': { id: '2673130560c84f658ad3c9f2ce23cd93', tells: 'A disk is not stopped any more' },
  'xen-block:device:ignored': {
    id: 'a6908234a10a4281a9d0b36d8dbb3f61',
    tells: 'A key of a disk has a value that means nothing',
  },
};

/** Of guests' requests. */
export const REQUEST_EVENTS: Readonly<Record<string, LogEvent>> = {
  'xen-block:request:refused': { id: '6c92efaaf1df4de585466e8fbd305658', tells: 'Requests of a guest were refused' },
  'xen-block:request:gave-up': {
    id: '4aae0b9f0b08446fb3b266febc45b0a4',
    tells: 'A request has ended two processes, and was answered with an error',
  },
  'xen-block:journal:dropped': {
    id: '24271cb72ffe4fe3995149d88e34e2c5',
    tells: 'A disk was taken over without its journal',
  },
  'xen-block:journal:failed': {
    id: 'b3147b7454d244599a7397d079b00d76',
    tells: 'Requests in flight would be lost with the process',
  },
  'xen-block:journal:made': {
    id: 'f937e46106da4b38891e672fdfc7a8c2',
    tells: 'Requests in flight would be lost with the process no more',
  },
  'xen-block:ring:overlooked': {
    id: '8c33e7afb47041698ce44ab2e41d0236',
    tells: 'Nobody had looked at a ring with requests for a second',
  },
  'xen-block:plane:failed': {
    id: '6fc907aa81fb4ad2b81fd351fc6c88cf',
    tells: 'There was a fault of xen-blockd while it served rings',
  },
};

/** Of images and what serves them. */
export const STORAGE_EVENTS: Readonly<Record<string, LogEvent>> = {
  'xen-block:storage:error': { id: 'e71152c06d044078817f50b5d4f1d336', tells: 'The storage failed a request' },
  'xen-block:storage:stalled': { id: '29d180790e584bf4b22c1e01ab3e8fd6', tells: 'The storage hangs' },
  'xen-block:storage:recovered': { id: 'b41718a56a934b0d9e849303f145b1b0', tells: 'The storage hangs no more' },
  'blockdev:nbd:lost': { id: '5df34d82c8a747e6a2c3be3f2630f041', tells: 'An NBD server, or a storage helper, is away' },
  'blockdev:nbd:unfit': {
    id: '50798d7c10634a9daf13a8e064b52903',
    tells: 'What answers in the place of an NBD server that went away cannot be used',
  },
  'blockdev:nbd:restored': {
    id: '18077afe073b49b8a7c493562398fb35',
    tells: 'The NBD server or the storage helper is back',
  },
  'blockdev:nbd:unkept': {
    id: 'b47440bd5e5d4cff9e81cfe47afe168f',
    tells: 'Writes that an NBD server has not flushed are lost with the process',
  },
  'blockdev:nbd:dropped': {
    id: '25efed036b98400f990c76711cd340d8',
    tells: 'Writes of an earlier process that were not flushed are not sent to an image that was changed since',
  },
  'blockdev:image:odd-size': { id: '921cd7fef8574ebc8753d935858cf4d2', tells: 'An image does not end with a sector' },
  'blockdev:image:unquiet': {
    id: '228e27791bc84a1bb0429f1d0e95de6a',
    tells: 'An image still has requests of an earlier process',
  },
  'blockdev:lock:unavailable': { id: '604ccbedf6be404183423497e5d0ddaa', tells: 'An image is served without a lock' },
  'blockdev:engine:fallback': {
    id: 'e31b2199fe9e42d59d699c68a169979e',
    tells: 'An image is served by another engine than was wanted',
  },
  'qemu-storage-daemon ended': {
    id: '5586c0a4d187495f996449e290d0f62a',
    tells: 'A storage helper has ended, and is started again',
  },
  'qemu-storage-daemon does not start': {
    id: '0010ff7e8c2143aa84dc478779bf68ee',
    tells: 'A storage helper could not be started; it is tried again',
  },
  'qemu-storage-daemon runs again': { id: '4496d6d9e30e42b7bf5d8a537fc4b3f3', tells: 'A storage helper runs again' },
  'qemu-storage-daemon of an earlier process goes on': {
    id: 'dfdc11439bba44ef88b267e49a1d915e',
    tells: 'A storage helper of an earlier process goes on',
  },
  'qemu-storage-daemon of an earlier process is killed': {
    id: 'cfca11f6e07349daaeb8e3c314ff3a4d',
    tells: 'A storage helper of an earlier process cannot go on',
  },
  'qemu-storage-daemon is not caged': {
    id: '393577c4581c45eebaa0d8835facc542',
    tells: 'A storage helper has all rights of the daemon',
  },
  'qemu-storage-daemon was killed and does not end': {
    id: '300c2f87166a4b7e881c906a8d16c60a',
    tells: 'A storage helper hangs in its storage',
  },
  'block job has ended': {
    id: 'c6b028d0baae4cbfb9e9779143e0618f',
    tells: 'A block job has done what it was started for',
  },
  'block job was cancelled': { id: '0ee9966b8f44457da3ba405ef833a7b7', tells: 'A block job was cancelled' },
  'block job has failed': {
    id: '48b7e2fb1d894239bb6e1657842c6725',
    tells: 'A block job has ended with an error; what it had done stays',
  },
  'no NBD export for an HVM guest': {
    id: 'b179fe2abaa14cd4957edda3aeb0bb35',
    tells: 'The firmware of a guest cannot read its disk',
  },
};

/** Of the daemon itself. */
export const DAEMON_EVENTS: Readonly<Record<string, LogEvent>> = {
  ready: { id: '9c82540813ea4a009a9b8ece27279d8d', tells: 'The daemon serves' },
  'every disk that was found is served or held': {
    id: '97fe70b4d2d94055a4a107d2471f0278',
    tells: 'The service manager was told that the daemon is ready',
  },
  'ready, though an image hangs': {
    id: 'de5bbe30bf1b4badbec82e5ee744e377',
    tells: 'The service manager was told so, though an image has hung for a minute',
  },
  stopping: { id: 'aca1deeb4e964ee2b7c8800aeab54d10', tells: 'The daemon stops, disks stay connected' },
  'the second signal': {
    id: '677ca45140dd4927b53d2c7c34281d80',
    tells: 'The daemon ends without waiting for requests in flight',
  },
  'not all could be closed': { id: 'b75373409b0c4afd8269d30f8484494f', tells: 'The daemon ends before all was closed' },
  unexpected: { id: '0a5ffa9e6b4f4cae83785c31b72a1a45', tells: 'The daemon ends by a fault' },
  'not serving': {
    id: 'f37353e1f06a41779c02e50fc44be145',
    tells: 'The daemon could not start, and waits before it ends',
  },
  'xenstore:connection:lost': { id: '647efe90af4747d185a36a8f58dd28c3', tells: 'xenstored is away' },
  'xenstore:connection:restored': { id: 'f5797df3f872443abe151e77dabe789c', tells: 'xenstored is back' },
  'xenstored went away': {
    id: '9214bfeec2c04d6d827a53e1e0a6ccbd',
    tells: 'The daemon ends, because xenstored is away for good',
  },
  'journal-directory': {
    id: '96d41caa4eb54d2aa76220cece5a7477',
    tells: 'Requests in flight may be lost if the process is killed',
  },
  'no metrics': { id: 'a554c3a112f541129a94e169ab1fb67c', tells: 'The metrics cannot be asked for' },
  'metrics there again': { id: '408ddc6dfd78449dae8d34284c9fcf55', tells: 'The metrics can be asked for again' },
  'no control socket': { id: '5c68cca5456b4f07b20411a78fefa40b', tells: 'The control socket cannot be made' },
  'control socket there again': { id: '9e9f0917013e43d4868d8e85b6c78b4c', tells: 'The control socket is there' },
  'xentop has no figures of vbd3 disks': {
    id: 'a0d7d1fe4d494729b9f9abfabecef120',
    tells: 'xentop has no figures of vbd3 disks',
  },
  'a thread that serves disks does not answer': {
    id: 'aa827b967c954fc394558ff55117ca99',
    tells: 'A thread that serves disks does not answer, and systemd will end the process',
  },
  'the service manager cannot be told': {
    id: '0919655902464419976ee6a87c22a882',
    tells: 'The service manager cannot be told',
  },
  'a folder of a daemon that is gone cannot be removed': {
    id: '6282e5f83319465a9bcd1ba709b8dc6e',
    tells: 'A folder of a daemon that is gone cannot be removed',
  },
  'what a daemon that is gone has left cannot be removed': {
    id: '9eb735b0c1d647fca1145ebf34491b57',
    tells: 'What a daemon that is gone has left cannot be removed',
  },
  'configuration loaded again': { id: '762181a0823d4706a19edfa2c5f4f4aa', tells: 'The configuration was read again' },
  'the configuration is wrong': {
    id: 'b9d704348d38449dbf0fdcdbcb604b1f',
    tells: 'The configuration is wrong, and the former one stays',
  },
  'lines of the log were left out, too many of one kind': {
    id: '2a3322ceab914dbab28063a13743bdcc',
    tells: 'Lines of the log were left out',
  },
  'lines of this log were lost': {
    id: '2be727fdaa424a92b562fe867d8a99b3',
    tells: 'Lines of the log could not be written',
  },
};

const EVENTS: Readonly<Record<string, LogEvent>> = {
  ...DISK_EVENTS,
  ...REQUEST_EVENTS,
  ...STORAGE_EVENTS,
  ...DAEMON_EVENTS,
};

/** The kind of a line: that of its event, or what its message says before a colon or semicolon. */
export function logEvent({ event, msg = '' }: { event?: string; msg?: string }): LogEvent | undefined {
  const kind = event ?? /^[^:;]*/.exec(msg)?.[0] ?? '';
  return Object.hasOwn(EVENTS, kind) ? EVENTS[kind] : undefined;
}
