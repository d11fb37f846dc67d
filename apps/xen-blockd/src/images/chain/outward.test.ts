import { existsSync, mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { nbdDiskOf } from '@xenpv/blockdev';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { HelperBench } from '../../testing/storage-helpers.js';
import { runTool } from '../../tools.js';
import { openFormatImage } from '../storage-daemon/format-image.js';
import { type ChainPolicy, ImageChain } from './chain.js';

const MIB = 1 << 20;

let bench: HelperBench;
let inside: string;
/** Somebody else's. */
let secret: string;

beforeEach(() => {
  bench = new HelperBench();
  inside = bench.path('images');
  mkdirSync(inside);
  secret = bench.path('secret');
  writeFileSync(secret, Buffer.alloc(MIB, 'S'));
});
afterEach(async () => {
  bench.expectNothingLeft();
  await bench[Symbol.asyncDispose]();
});

const image = (name = 'disk') => join(inside, name);

async function qemuImg(...args: string[]): Promise<void> {
  const { code, stderr } = await runTool('qemu-img', args);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
}

/** An image that names a backing file, whether there is one or not. */
function overlay(name: string, { format = 'qcow2', of = 'raw', path = image() } = {}): Promise<void> {
  return qemuImg('create', '-q', '-u', '-f', format, '-b', name, ...(of ? ['-F', of] : []), path, '1M');
}

/** A file of the format whose bytes at some places are these. */
async function made(format: string, patches: Record<number, Uint8Array>, options: string[] = []): Promise<void> {
  await qemuImg('create', '-q', '-f', format, ...options, image(), '1M');
  const content = readFileSync(image());
  for (const [offset, bytes] of Object.entries(patches)) content.set(bytes, Number(offset));
  writeFileSync(image(), content);
}

/** The name of the backing file, exchanged for one of the same length or shorter: QEMU refuses to make some. */
function rename(from: string, to: string): void {
  const content = readFileSync(image());
  const at = content.indexOf(from);
  expect(at).toBeGreaterThan(0);
  content.fill(0, at, at + from.length).write(to, at, 'latin1');
  writeFileSync(image(), content);
}

async function refusal(format: string, policy: ChainPolicy = { directories: [inside] }): Promise<string> {
  const outcome = await openFormatImage(bench.options(image(), { format, chain: policy })).catch((error) => error);
  expect(outcome).toMatchObject({ code: 'ERR_IMAGE', path: image() });
  expect(outcome.message.startsWith(`${image()}: `)).toBe(true);
  return outcome.message.slice(image().length + 2);
}

function link(name: string, to: string): string {
  symlinkSync(to, image(name));
  return name;
}

const OUTSIDE = /^its backing file \S+ is not in one of image-directories \(\S+\/images\)$/;
const NO_FILE = /^its backing file .* is not the name of a file, and nothing else is opened for it$/;
const NO_DATA_FILE = /^its data file .* is not the name of a file, and nothing else is opened for it$/;
const json = (path: string) => `json:${JSON.stringify({ driver: 'raw', file: { driver: 'file', filename: path } })}`;
const DIFFERENCING = Uint8Array.of(0, 0, 0, 4);

needs('qemu-img').describe('F6: a name in an image is refused, and no helper is started, for', () => {
  let started: string;
  beforeEach(() => {
    started = bench.path('started');
    bench.fake(`touch ${started}; exit 1`);
  });

  const names: [what: string, name: () => string, reason: RegExp][] = [
    ['an absolute path', () => secret, OUTSIDE],
    ['/etc/shadow', () => '/etc/shadow', OUTSIDE],
    ['a path that goes up', () => '../secret', OUTSIDE],
    ['a link out', () => link('link', secret), OUTSIDE],
    ['a folder that is a link out', () => `${link('folder', '..')}/secret`, OUTSIDE],
    ['a device of the host', () => '/dev/null', OUTSIDE],
    ['JSON', () => json(secret), NO_FILE],
    ['a file as URL', () => `file:${secret}`, NO_FILE],
    ['an NBD server', () => 'nbd:unix:/run/other', NO_FILE],
    ['another NBD server', () => 'nbd://127.0.0.1/x', NO_FILE],
    ['a web server', () => 'http://127.0.0.1/x', NO_FILE],
    ['a host with ssh', () => 'ssh://127.0.0.1/x', NO_FILE],
    ['what FAT makes of a folder', () => 'fat:rw:/etc', NO_FILE],
    ['a missing file', () => 'missing', /^its backing file \S+\/images\/missing does not exist$/],
    ['a folder', () => '.', /^its backing file \S+ is (a directory|not in one of)/],
    ['itself', () => 'disk', /^\S+ is its own backing file$/],
  ];

  it.each(names)('qcow2: %s', async (_, name, reason) => {
    await overlay('x'.repeat(200));
    rename('x'.repeat(200), name());
    expect(await refusal('qcow2')).toMatch(reason);
    expect(existsSync(started)).toBe(false);
  });

  it.each(names.slice(0, -2))('qed: %s', async (_, name, reason) => {
    await overlay('x'.repeat(200), { format: 'qed' });
    rename('x'.repeat(200), name());
    expect(await refusal('qed')).toMatch(reason);
    expect(existsSync(started)).toBe(false);
  });

  it.each(names.slice(0, -2))('qcow: %s', async (_, name, reason) => {
    await made('qcow', { 8: Uint8Array.of(0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 200) });
    writeFileSync(image(), Buffer.concat([readFileSync(image()), Buffer.alloc(0x3000)]));
    const content = readFileSync(image());
    content.write(name(), 0x2000, 'latin1');
    writeFileSync(image(), content);
    expect(await refusal('qcow')).toMatch(reason);
    expect(existsSync(started)).toBe(false);
  });

  it.each<[string, string, RegExp, (format: string) => Promise<void>]>([
    [
      'data in a file elsewhere',
      'qcow2',
      /^its data file \S+ is not in one of image-directories/,
      () => dataFile(secret),
    ],
    ['data behind JSON', 'qcow2', NO_DATA_FILE, () => dataFile(json('/etc/shadow'))],
    ['data behind a URL', 'qcow2', NO_DATA_FILE, () => dataFile('nbd://127.0.0.1/x')],
    [
      'a backing file of a backing file',
      'qcow2',
      OUTSIDE,
      async () => {
        await overlay(secret, { path: image('middle') });
        await overlay('middle', { of: 'qcow2' });
      },
    ],
    ['a format that is none', 'qcow2', /format nbd, which is not served/, () => overlayOfFormat('nbd')],
    ['a format with parts', 'qcow2', /format quorum, which is not served/, () => overlayOfFormat('quorum')],
    [
      'a format that only the backing file itself tells',
      'qcow2',
      /does not say of which format .* looks like qcow2; .*qemu-img rebase -u -F qcow2/,
      async () => {
        await qemuImg('create', '-q', '-f', 'qcow2', image('base'), '1M');
        await overlayOfFormat('');
      },
    ],
    [
      'extents that are flat',
      'vmdk',
      /^it is not a VMDK .* of which the first is disk-flat.vmdk; .*convert/,
      (format) =>
        qemuImg('create', '-q', '-f', format, '-o', 'subformat=monolithicFlat', image('disk.vmdk'), '1M').then(() =>
          writeFileSync(image(), readFileSync(image('disk.vmdk'))),
        ),
    ],
    [
      'extents elsewhere',
      'vmdk',
      /of which the first is \S+\/secret; /,
      async () => writeFileSync(image(), descriptor(secret)),
    ],
    [
      'extents of a descriptor within an image',
      'vmdk',
      /^it is a VMDK descriptor in the form of an image: .* is \S+\/secret; /,
      () => made('vmdk', { 12: new Uint8Array(8), 512: Buffer.from(descriptor(secret)) }),
    ],
    [
      'a parent elsewhere',
      'vmdk',
      /^its backing file \S+\/parent is not in one of image-directories/,
      async (format) => {
        await qemuImg('create', '-q', '-f', format, bench.path('parent'), '1M');
        await qemuImg('create', '-q', '-f', format, '-b', bench.path('parent'), '-F', 'vmdk', image());
      },
    ],
    [
      'a parent that QEMU does not read',
      'vhd',
      /^it is a differencing VHD/,
      () => made('vpc', { 60: DIFFERENCING, 1596: DIFFERENCING }),
    ],
  ])('%s (%s)', async (_, format, reason, make) => {
    await make(format);
    expect(await refusal(format)).toMatch(reason);
    expect(existsSync(started)).toBe(false);
  });

  const descriptor = (extent: string) =>
    `# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\nRW 2048 FLAT "${extent}" 0\n`;

  async function dataFile(name: string): Promise<void> {
    const long = image('y'.repeat(150));
    await qemuImg('create', '-q', '-f', 'qcow2', '-o', `data_file=${long}`, image(), '1M');
    rename(long, name);
  }

  async function overlayOfFormat(format: string): Promise<void> {
    await overlay('base', { of: 'host_cdrom' });
    rename('host_cdrom', format);
  }

  it('any other file, where the configuration says so', async () => {
    await overlay('base');
    const policy = { directories: [inside], backingFiles: false };
    expect(await refusal('qcow2', policy)).toBe('it has the backing file base, and backing-files is false');
  });

  it('a file that is not below the folder of the image, where no directories are named', async () => {
    await overlay(secret);
    expect(await refusal('qcow2', {})).toMatch(/is not below the image's own folder; name .* in image-directories$/);
  });

  needs('Linux').it('an image whose header cannot be read', async () => {
    // Nothing is mapped at its beginning.
    link('disk', '/proc/self/mem');
    expect(await refusal('qcow2', {})).toBe('it cannot be read (EIO)');
  });

  it('more images than anybody has', async () => {
    await overlay('img-000', { of: 'qcow2' });
    const content = readFileSync(image());
    for (let i = 1; i <= 101; i++) {
      content.write(`img-${String(i).padStart(3, '0')}`, content.indexOf('img-'), 'latin1');
      writeFileSync(image(`img-${String(i - 1).padStart(3, '0')}`), content);
    }
    expect(await refusal('qcow2')).toBe('it has more than 100 backing files');
  });
});

needs('qemu-img', 'qemu-storage-daemon').describe('an image that is made of several files', () => {
  const ways: [string, () => ChainPolicy][] = [
    ['image-directories', () => ({ directories: [inside] })],
    ['its own folder', () => ({})],
  ];

  it.each(ways)('is read through all of them, and written into the first only, within %s', async (_, policy) => {
    writeFileSync(image('base'), Buffer.alloc(MIB, 'B'));
    mkdirSync(image('snapshots'));
    await overlay('../base', { path: image('snapshots/middle') });
    await overlay('snapshots/middle', { of: 'qcow2' });
    {
      await using opened = await openFormatImage(bench.options(image(), { chain: policy() }));
      await using disk = nbdDiskOf(opened);
      expect(Buffer.from(await disk.read(0, 4096)).equals(Buffer.alloc(4096, 'B'))).toBe(true);
      await disk.write(4096, Buffer.alloc(4096, 'W'));
      expect(Buffer.from(await disk.read(4096, 4096)).equals(Buffer.alloc(4096, 'W'))).toBe(true);
    }
    expect(readFileSync(image('base')).equals(Buffer.alloc(MIB, 'B'))).toBe(true);
    await qemuImg('check', '-q', image());
  });

  it.each([
    ['vdi', { 424: Uint8Array.of(1) }, /non-NULL link UUID/],
    ['vhdx', { [(3 << 20) + (64 << 10) + 4]: Uint8Array.of(2) }, /Invalid argument/],
  ])('is refused by QEMU for format %s, which knows no parents', async (format, patches, reason) => {
    await made(format, patches);
    expect(await refusal(format)).toMatch(reason);
    await made(format, {});
    await using _opened = await openFormatImage(bench.options(image(), { format }));
  });

  it('reaches no further than its own folder, whatever its path has become since it was found', async () => {
    await overlay(secret);
    const policy: ChainPolicy = {
      // Asked when the header has been read.
      get backingFiles() {
        renameSync(image(), image('away'));
        symlinkSync(secret, image());
        return true;
      },
    };
    await expect(ImageChain.open(image(), 'qcow2', policy)).rejects.toThrow("is not below the image's own folder");
  });

  it('has its data where qcow2 says so', async () => {
    await qemuImg('create', '-q', '-f', 'qcow2', '-o', `data_file=${image('data')},data_file_raw=on`, image(), '1M');
    {
      await using opened = await openFormatImage(bench.options(image(), { chain: { directories: [inside] } }));
      await using disk = nbdDiskOf(opened);
      await disk.write(0, Buffer.alloc(4096, 'D'));
    }
    expect(readFileSync(image('data'), 'latin1').slice(0, 4096)).toBe('D'.repeat(4096));
  });
});
