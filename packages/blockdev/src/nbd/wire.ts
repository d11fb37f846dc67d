import { connect, isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { Conversation, NbdError, negotiateTls, type Speaker } from '@xenpv/nbd';
import { connectOptions, type NbdAddress, type NbdTls } from './address.js';

export interface WireOptions {
  readonly address: NbdAddress;
  /** Where bytes are received; they are the speaker's until it has returned. */
  readonly received: Buffer;
  /** What is said on it from the beginning on, or where the server has greeted before TLS began from then on. */
  readonly converse: (socket: Socket, state: { readonly greeted: boolean }) => Speaker<never>;
  /** After each piece of what was received. */
  readonly onReceived: () => void;
  /** The socket is another one from now on: the encrypted one. */
  readonly onSocket: (socket: Socket) => void;
  /** Once, whatever ended it; `failure` if it was an error. */
  readonly onClosed: (failure: Error | undefined) => void;
}

/** Begins to connect to a server. What is thrown by who converses ends the connection. */
export function openWire(options: WireOptions): void {
  const { address, received, converse } = options;
  const { tls } = typeof address === 'string' ? {} : address;
  if (tls) {
    openTls(options, tls);
    return;
  }
  const onread = { buffer: received, callback: (bytes: number) => receive(received.subarray(0, bytes)) };
  const socket = connect({ ...connectOptions(address), onread });
  watch([socket], options);
  options.onSocket(socket);
  const receive = feeder(socket, new Conversation(converse(socket, { greeted: false })), options);
}

function openTls(options: WireOptions, tls: NbdTls): void {
  const { address, converse } = options;
  const { host } = address as { host: string };
  const plain = connect(connectOptions(address));
  const closes = watch([plain], options);
  options.onSocket(plain);
  const beginning = new Conversation(negotiateTls((bytes) => void plain.write(bytes)));
  const begin = (bytes: Buffer) => {
    try {
      const used = beginning.feed(bytes);
      if (beginning.result === undefined) return;
      // Somebody on the way may have said it.
      if (used < bytes.length) throw new NbdError('ERR_PROTOCOL', 'negotiate', 'it goes on without TLS');
      plain.off('data', begin);
      const servername = isIP(host) ? undefined : host;
      const socket = connectTls({ socket: plain, host, servername, ...tls, minVersion: 'TLSv1.2' });
      closes.also(socket);
      options.onSocket(socket);
      socket.once('secureConnect', () => {
        const receive = feeder(socket, new Conversation(converse(socket, { greeted: true })), options);
        socket.on('data', receive);
      });
    } catch (error) {
      plain.destroy(error as Error);
    }
  };
  plain.on('data', begin);
}

function feeder(socket: Socket, conversation: Conversation<never>, { onReceived }: WireOptions) {
  return (bytes: Buffer): true => {
    try {
      conversation.feed(bytes);
      onReceived();
    } catch (error) {
      socket.destroy(error as Error);
    }
    return true;
  };
}

/** The end of the first of several sockets, one within the other, is that of all. */
function watch(sockets: Socket[], { onClosed }: WireOptions): { also(socket: Socket): void } {
  let failure: Error | undefined;
  let isClosed = false;
  const add = (socket: Socket) => {
    socket.on('error', (error) => {
      failure ??= isTls(error) ? new NbdError('ERR_PROTOCOL', 'negotiate', `TLS: ${error.message}`) : error;
    });
    socket.on('close', () => {
      for (const each of sockets) each.destroy();
      if (isClosed) return;
      isClosed = true;
      onClosed(failure);
    });
  };
  for (const socket of sockets) add(socket);
  return {
    also: (socket) => {
      sockets.push(socket);
      add(socket);
    },
  };
}

/** Of a certificate, or of OpenSSL: their codes are no errnos, and say little. */
function isTls(error: Error): boolean {
  const { code } = error as { code?: unknown };
  return (
    error.name !== 'NbdError' &&
    typeof code === 'string' &&
    (code === 'EPROTO' || !/^(E[A-Z0-9]+|EAI_[A-Z]+)$/.test(code))
  );
}
