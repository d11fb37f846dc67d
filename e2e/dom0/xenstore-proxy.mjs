/** A socket in front of xenstored's, whose connections can be cut: xenstored itself cannot be ended and started again. */
import { createConnection, createServer } from 'node:net';

export class XenstoreProxy {
  #connections = new Set();

  static async listen(path) {
    const proxy = new XenstoreProxy();
    proxy.server = createServer((client) => proxy.#join(client));
    await new Promise((resolve) => proxy.server.listen(path, resolve));
    return proxy;
  }

  #join(client) {
    const server = createConnection('/run/xenstored/socket');
    for (const [from, to] of [
      [client, server],
      [server, client],
    ]) {
      this.#connections.add(from);
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        this.#connections.delete(from);
        to.destroy();
      });
    }
  }

  /** Cuts every connection; resolves with how many there were. */
  cut() {
    const count = this.#connections.size / 2;
    for (const connection of this.#connections) connection.destroy();
    return count;
  }

  close() {
    this.cut();
    this.server.close();
  }
}
