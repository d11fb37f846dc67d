/** Layouts of the negotiation of meta contexts, as both sides write and read them. All fields are big-endian. */
import { NBD_MAX_STRING } from './numbers.js';

/** What SET_META_CONTEXT and LIST_META_CONTEXT ask for. */
export interface ContextRequest {
  /** The export's. */
  readonly name: string;
  /** Names of contexts; a namespace with its colon asks for all in it. */
  readonly queries: readonly string[];
}

export function encodeContextRequest({ name, queries }: ContextRequest): Buffer {
  const count = Buffer.alloc(4);
  count.writeUInt32BE(queries.length);
  return Buffer.concat([encodeString(name), count, ...queries.map(encodeString)]);
}

/** Undefined if malformed: it has other lengths than it says, or a string that is too long. */
export function decodeContextRequest(data: Buffer): ContextRequest | undefined {
  let at = 0;
  const takeNumber = () => {
    at += 4;
    return at <= data.length ? data.readUInt32BE(at - 4) : undefined;
  };
  const takeString = () => {
    const length = takeNumber();
    if (length === undefined || length > Math.min(data.length - at, NBD_MAX_STRING)) return undefined;
    at += length;
    return data.toString('utf8', at - length, at);
  };
  const name = takeString();
  const count = name === undefined ? undefined : takeNumber();
  if (name === undefined || count === undefined) return undefined;
  const queries: string[] = [];
  while (queries.length < count) {
    const query = takeString();
    if (query === undefined) return undefined;
    queries.push(query);
  }
  return at === data.length ? { name, queries } : undefined;
}

/** The data of a reply that names a context, and its number in this connection. */
export function encodeContext(id: number, name: string): Buffer {
  const data = Buffer.alloc(4);
  data.writeUInt32BE(id);
  return Buffer.concat([data, Buffer.from(name)]);
}

/** Undefined if the data is no {@link encodeContext}. */
export function decodeContext(data: Buffer): { id: number; name: string } | undefined {
  return data.length < 4 ? undefined : { id: data.readUInt32BE(0), name: data.toString('utf8', 4) };
}

function encodeString(text: string): Buffer {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}
