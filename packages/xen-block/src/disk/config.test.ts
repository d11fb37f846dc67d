import { expect, it } from 'vitest';
import { IMAGE_FORMATS, parseParams } from './config.js';

it.each([
  // As libxl writes them.
  ['qdisk', 'aio:/images/a', 'raw', '/images/a'],
  ['qdisk', 'qcow2:/images/a', 'qcow2', '/images/a'],
  ['qdisk', 'empty:', 'raw', ''],
  ['vbd3', 'vhd:/images/a', 'vhd', '/images/a'],
  ['vbd3', 'aio:vg/volume', 'raw', 'vg/volume'],
  ['vbd', '/dev/vg/volume', 'raw', '/dev/vg/volume'],
  ['vbd', 'vg/volume', 'raw', 'vg/volume'],
  ['vbd', 'phy:vg/volume', 'raw', 'vg/volume'],
  ['vbd', 'file:/images/a', 'raw', '/images/a'],
  // What is raw to libxl names its format.
  ['qdisk', 'aio:qcow2:/images/a', 'qcow2', '/images/a'],
  ['vbd3', 'aio:qcow2:/images/a', 'qcow2', '/images/a'],
  ['vbd3', 'aio:vmdk:vg/volume', 'vmdk', 'vg/volume'],
  ['vbd', 'qcow2:/images/a', 'qcow2', '/images/a'],
  ['vbd', 'phy:vhdx:/dev/vg/volume', 'vhdx', '/dev/vg/volume'],
  ['vbd', 'raw:/images/a', 'raw', '/images/a'],
  ['vbd3', 'aio:raw:/images/a', 'raw', '/images/a'],
  ['vbd3', 'raw:/images/a', 'raw', '/images/a'],
  // Colons that say nothing of a format.
  ['vbd', '/images/qcow2:a', 'raw', '/images/qcow2:a'],
  ['vbd', 'disk/by-path/pci-0:1', 'raw', 'disk/by-path/pci-0:1'],
  ['vbd', 'nbd+unix:///a?socket=/b', 'raw', 'nbd+unix:///a?socket=/b'],
  ['vbd3', 'aio:nbd+unix:///a?socket=/b', 'raw', 'nbd+unix:///a?socket=/b'],
  ['vbd3', 'aio:tape:/images/a', 'raw', 'tape:/images/a'],
  // Said once, and once more only.
  ['vbd3', 'aio:qcow2:vhd:/images/a', 'qcow2', 'vhd:/images/a'],
  ['vbd3', 'aio:raw:qcow2:/images/a', 'raw', 'qcow2:/images/a'],
  ['vbd3', 'qcow2:raw:/images/a', 'qcow2', 'raw:/images/a'],
  ['vbd3', 'tape:/images/a', 'tape', '/images/a'],
  ['vbd', '', 'raw', ''],
  ['vbd', 'qcow2:', 'qcow2', ''],
])('%s with params %s is a %s image of %s', (type, params, format, target) => {
  expect(parseParams(params, type)).toEqual({ format, target });
});

it('the words for formats are words', () => {
  for (const format of IMAGE_FORMATS) expect(format).toMatch(/^[a-z0-9]+$/);
});
