import { strict as assert } from 'node:assert';
import type { SuiteTests } from './session.js';

/** XS_GET_DOMAIN_PATH of io/xs_wire.h. */
const GET_DOMAIN_PATH = 10;
const HEADER_BYTES = 16;

/** Asks for the path of domain 0: struct xsd_sockmsg (type, request, transaction, length), then `0` and a zero byte. */
function domainPathRequest(): Uint8Array {
  const payload = Buffer.from('0\0');
  const header = Uint32Array.of(GET_DOMAIN_PATH, 42, 0, payload.length);
  return Buffer.concat([new Uint8Array(header.buffer), payload]);
}

export const xenstoreTests: SuiteTests = {
  'a connection answers, and closes': async (session) => {
    const transport = await session.backend.provider.connectXenstore();
    const answer = await new Promise<string>((resolve, reject) => {
      let received = Buffer.alloc(0);
      transport.start({
        data: (chunk) => {
          received = Buffer.concat([received, chunk]);
          if (received.includes('/local/domain/0')) resolve(received.subarray(HEADER_BYTES).toString());
        },
        close: (error) => reject(error ?? new Error('closed')),
      });
      transport.send(domainPathRequest());
    });
    assert.match(answer, /^\/local\/domain\/0\0?$/);
    await transport.close();
    await transport.close();
  },

  'what is shared with another thread can be cloned': async (session) => {
    const shared = session.frontend.provider.share();
    assert.deepEqual(structuredClone(shared), shared);
    assert.match(shared.module, /^file:|^@/);
  },
};
