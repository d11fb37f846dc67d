import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

/** Binds the socket and says so; once it is told to, it prints each datagram in hexadecimal digits. */
const RECEIVER = `
import socket, sys
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind(sys.argv[1])
print('bound', flush=True)
sys.stdin.readline()
while True:
    print(receiver.recv(1 << 20).hex(), flush=True)
`;

/** A socket of datagrams in the place of the journal's, in a process of its own. */
export class JournalSocket implements AsyncDisposable {
  readonly #child: ChildProcess;
  #said = '';

  private constructor(path: string) {
    this.#child = spawn('python3', ['-c', RECEIVER, path], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child.stdout?.on('data', (chunk) => {
      this.#said += chunk;
    });
  }

  /** Nothing is read yet. */
  static async bind(path: string): Promise<JournalSocket> {
    const receiver = new JournalSocket(path);
    while (!receiver.#said.includes('\n')) await once(receiver.#child.stdout as NodeJS.EventEmitter, 'data');
    return receiver;
  }

  /** Reads from now on. */
  read(): void {
    this.#child.stdin?.write('read\n');
  }

  /** What has arrived so far. */
  get entries(): Readonly<Record<string, string>>[] {
    const [, ...lines] = this.#said.split('\n').slice(0, -1);
    return lines.map((line) => decodeEntry(Buffer.from(line, 'hex')));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#child, 'close');
    this.#child.kill('SIGKILL');
    await closed;
  }
}

/** The fields of an entry in the native protocol, as journald reads them. */
export function decodeEntry(entry: Buffer): Record<string, string> {
  const fields: Record<string, string> = {};
  for (let at = 0; at < entry.length; ) {
    const end = entry.indexOf('\n', at);
    const line = entry.subarray(at, end).toString();
    const equals = line.indexOf('=');
    if (equals >= 0) {
      fields[line.slice(0, equals)] = line.slice(equals + 1);
      at = end + 1;
    } else {
      const length = Number(entry.readBigUInt64LE(end + 1));
      fields[line] = entry.subarray(end + 9, end + 9 + length).toString();
      at = end + 9 + length + 1;
    }
  }
  return fields;
}
