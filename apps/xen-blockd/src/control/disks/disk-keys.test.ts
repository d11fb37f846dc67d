import { IMAGE_FORMATS, parseParams } from '@xenpv/xen-block';
import { expect, it } from 'vitest';
import { paramsOf } from './disk-keys.js';

it.each(['qdisk', 'vbd3', 'vbd'])('what is written for a disk of type %s is read as the same image', (type) => {
  for (const format of ['raw', ...IMAGE_FORMATS]) {
    expect(parseParams(paramsOf({ type }, '/images/a', format), type)).toEqual({ format, target: '/images/a' });
  }
  expect(parseParams(paramsOf({ type }, '', 'raw'), type)).toEqual({ format: 'raw', target: '' });
});
