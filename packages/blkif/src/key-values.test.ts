import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  backendKeys,
  formatKeys,
  frontendKeys,
  frontendToolstackKeys,
  isConnectionKey,
  type KeyField,
  type KeySchema,
  parseKey,
  parseKeys,
  queueKeys,
  ringKeys,
  toolstackKeys,
} from './index.js';

const LARGEST = { uint: 2 ** 32 - 1, domid: 0x7fff, uint64: Number.MAX_SAFE_INTEGER };

function contentOf({ type }: KeyField): fc.Arbitrary<string | number | boolean> {
  if (type === 'boolean') return fc.boolean();
  return type === 'string' ? fc.string() : fc.nat(LARGEST[type]);
}

it.each<[string, KeySchema]>([
  ['backendKeys', backendKeys],
  ['toolstackKeys', toolstackKeys],
  ['frontendKeys', frontendKeys],
  ['frontendToolstackKeys', frontendToolstackKeys],
  ['queueKeys', queueKeys],
  ['ringKeys', ringKeys(2)],
])('%s read what they wrote, and defaults for the rest', (_, schema) => {
  const fields = Object.entries(schema);
  const values = fc.record(Object.fromEntries(fields.map(([key, field]) => [key, contentOf(field)])), {
    requiredKeys: [],
  });
  fc.assert(
    fc.property(values, (values) => {
      const texts = formatKeys(schema, values);
      expect(Object.keys(texts).sort()).toEqual(Object.keys(values).sort());
      const defaults = fields.map(([key, field]) => [key, field.default]);
      expect(parseKeys(schema, texts)).toEqual({ ...Object.fromEntries(defaults), ...values });
    }),
  );
});

it.each<[KeyField['type'], string, unknown]>([
  ['uint', '0', 0],
  ['uint', '4294967295', 2 ** 32 - 1],
  ['uint', '4294967296', undefined],
  ['uint', '-1', undefined],
  ['uint', '0x10', undefined],
  ['uint', '1.5', undefined],
  ['uint', '', undefined],
  ['uint64', '9007199254740991', Number.MAX_SAFE_INTEGER],
  ['uint64', '9007199254740992', undefined],
  ['domid', '32767', 0x7fff],
  ['domid', '32768', undefined],
  ['boolean', '1', true],
  ['boolean', '0', false],
  ['boolean', '2', true],
  ['boolean', 'yes', undefined],
  ['string', '', ''],
])('a %s that holds %j is %s', (type, text, value) => {
  expect(parseKey({ type }, text)).toBe(value);
  expect(parseKey({ type }, undefined)).toBeUndefined();
});

it('knows the keys of one connection', () => {
  const keys = ['ring-ref', 'ring-ref0', 'ring-ref15', 'queue-0', 'event-channel', 'protocol', 'num-ring-pages'];
  expect(keys.filter(isConnectionKey)).toEqual(keys);
  const others = ['state', 'backend', 'backend-id', 'virtual-device', 'device-type', 'ring-refs', 'queue-x', 'trusted'];
  expect(others.filter(isConnectionKey)).toEqual([]);
});
