import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeVdev, formatVdev, parseVdev, VdevError, vdevOfDisk } from './vdev.js';

describe('the forms of xen-vbd-interface(7)', () => {
  it.each([
    ['xvda', 51712, 'xvd', 0, 0],
    ['xvda1', 51713, 'xvd', 0, 1],
    ['xvda15', 51727, 'xvd', 0, 15],
    ['xvda16', 2 ** 28 + 16, 'xvd', 0, 16],
    ['xvdp15', 51967, 'xvd', 15, 15],
    ['xvdq', 2 ** 28 + 16 * 256, 'xvd', 16, 0],
    ['xvdaa', 2 ** 28 + 26 * 256, 'xvd', 26, 0],
    ['xvdtq37', 268572709, 'xvd', 536, 37],
    ['d0', 51712, 'd', 0, 0],
    ['d0p1', 51713, 'd', 0, 1],
    ['d536p37', 268572709, 'd', 536, 37],
    ['d1048575p255', 2 ** 29 - 1, 'd', 1048575, 255],
    ['hda', 768, 'hd', 0, 0],
    ['hda63', 831, 'hd', 0, 63],
    ['hdb', 832, 'hd', 1, 0],
    ['hdc', 5632, 'hd', 2, 0],
    ['hdd1', 5697, 'hd', 3, 1],
    ['sda', 2048, 'sd', 0, 0],
    ['sdp15', 2303, 'sd', 15, 15],
    ['51712', 51712, 'xvd', 0, 0],
    ['0xca00', 51712, 'xvd', 0, 0],
    ['0XCA01', 51713, 'xvd', 0, 1],
    ['0145000', 51712, 'xvd', 0, 0],
    ['5632', 5632, 'hd', 2, 0],
    ['268572709', 268572709, 'xvd', 536, 37],
  ])('%s is %i', (text, number, kind, disk, partition) => {
    expect(parseVdev(text)).toEqual({ number, kind, disk, partition });
  });

  it.each([
    '',
    'xvd',
    'xvdA',
    'xvda 1',
    'xvda256',
    'xvda-1',
    'hde',
    'hda64',
    'sdq',
    'sda16',
    'd',
    'dp1',
    'd0p',
    'd+1',
    'd1048576',
    'd0p256',
    'd0x10',
    'vda',
    'xvda1p1',
    '/dev/xvda',
    '0',
    '1',
    '899',
    '4096',
    '5760',
    '51968',
    '536870912',
    '0x',
    '-51712',
    'xvdzzzzzzzzzzzzzzzzzzzz',
  ])('%j is refused', (text) => {
    expect(() => parseVdev(text)).toThrow(VdevError);
    expect(() => parseVdev(text)).toThrow(expect.objectContaining({ code: 'ERR_VDEV', vdev: text }));
  });
});

describe('names of numbers', () => {
  it.each([
    [51712, 'xvda'],
    [51713, 'xvda1'],
    [768, 'hda'],
    [5697, 'hdd1'],
    [2048, 'sda'],
    [268572709, 'xvdtq37'],
    // An extended number of a disk that has a short one: the name would lead elsewhere.
    [2 ** 28, '268435456'],
    [899, '899'],
    [2 ** 29, '536870912'],
  ])('%i is %s', (number, name) => {
    expect(formatVdev(number)).toBe(name);
  });

  it('round-trips every disk and partition of every kind', () => {
    const named = fc.constantFrom('xvd', 'sd', 'hd', 'd');
    const letters = fc.stringMatching(/^[a-z]{1,4}$/);
    fc.assert(
      fc.property(named, letters, fc.nat(300), fc.nat(2 ** 20), (kind, disk, partition, count) => {
        const text = kind === 'd' ? `d${count}p${partition}` : `${kind}${disk}${partition || ''}`;
        let vdev: ReturnType<typeof parseVdev>;
        try {
          vdev = parseVdev(text);
        } catch (error) {
          expect(error).toBeInstanceOf(VdevError);
          return;
        }
        expect(parseVdev(formatVdev(vdev.number)).number).toBe(vdev.number);
        if (kind !== 'd') expect(formatVdev(vdev.number)).toBe(text);
        expect(decodeVdev(vdev.number)).toMatchObject({ disk: vdev.disk, partition: vdev.partition });
      }),
    );
  });

  it('takes any number', () => {
    fc.assert(
      fc.property(fc.nat(2 ** 29 + 1000), (number) => {
        const vdev = decodeVdev(number);
        const name = formatVdev(number);
        if (vdev === undefined) expect(name).toBe(String(number));
        else expect(parseVdev(name).number).toBe(number);
      }),
    );
  });

  it('numbers the disks that were given no name', () => {
    expect(vdevOfDisk(0).number).toBe(51712);
    expect(formatVdev(vdevOfDisk(3).number)).toBe('xvdd');
    expect(formatVdev(vdevOfDisk(16).number)).toBe('xvdq');
  });
});
