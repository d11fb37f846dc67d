import { encodeMessage, XsOp } from '@xenpv/xenstore';
import { beforeEach, describe, expect, it } from 'vitest';
import { guest, ok, start, tool } from '../testing/scene.js';

beforeEach(() => start());

describe('nodes', () => {
  it('begins with /tool/xenstored, owned by domain 0', async () => {
    expect(await tool.ask(XsOp.directory, '/\0')).toBe('tool\0');
    expect(await tool.ask(XsOp.directory, '/tool\0')).toBe('xenstored\0');
    expect(await tool.ask(XsOp.getPermissions, '/tool/xenstored\0')).toBe('n0\0');
  });

  it('are made with all directories above them, in order', async () => {
    await ok(tool, XsOp.write, '/a/b/c\0value');
    await ok(tool, XsOp.write, '/a/a\0');
    await ok(tool, XsOp.mkdir, '/a/0\0');
    expect(await tool.ask(XsOp.read, '/a/b\0')).toBe('');
    expect(await tool.ask(XsOp.read, '/a/b/c\0')).toBe('value');
    expect(await tool.ask(XsOp.directory, '/a\0')).toBe('b\0a\x000\0');
    await ok(tool, XsOp.remove, '/a/a\0');
    await ok(tool, XsOp.mkdir, '/a/a\0');
    expect(await tool.ask(XsOp.directory, '/a\0')).toBe('b\x000\0a\0');
  });

  it('hold any bytes', async () => {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i)).toString('latin1');
    await ok(tool, XsOp.write, `/a\0${bytes}`);
    expect(await tool.ask(XsOp.read, '/a\0')).toBe(bytes);
  });

  it('keep what was written when the sender changes its buffer', async () => {
    const message = encodeMessage(XsOp.write, 77, 0, Buffer.from('/a\0value'));
    tool.sendRaw(message);
    await tool.takeEvents();
    message.fill(0);
    expect(await tool.ask(XsOp.read, '/a\0')).toBe('value');
  });

  it('are removed with all below; a missing one is fine if its directory is there', async () => {
    await ok(tool, XsOp.write, '/a/b/c\0value');
    await ok(tool, XsOp.remove, '/a\0');
    expect(await tool.ask(XsOp.read, '/a/b/c\0')).toBe('!ENOENT');
    await ok(tool, XsOp.remove, '/a\0');
    expect(await tool.ask(XsOp.remove, '/a/b\0')).toBe('!ENOENT');
    expect(await tool.ask(XsOp.remove, '/\0')).toBe('!EINVAL');
  });

  it.each([
    ['an empty path', XsOp.read, '\0', '!EINVAL'],
    ['no NUL', XsOp.read, '/a', '!EINVAL'],
    ['two strings', XsOp.read, '/a\0/b\0', '!EINVAL'],
    ['nothing', XsOp.read, '', '!EINVAL'],
    ['a double slash', XsOp.read, '//\0', '!EINVAL'],
    ['a slash at the end', XsOp.mkdir, '/a/\0', '!EINVAL'],
    ['a wrong character', XsOp.write, '/a.b\0x', '!EINVAL'],
    ['a path that is too long', XsOp.write, `/${'a'.repeat(2048)}\0x`, '!EINVAL'],
    ['a special name', XsOp.write, '@releaseDomain\0x', '!EINVAL'],
    ['no value', XsOp.write, '/a', '!EINVAL'],
    ['a relative path that is missing', XsOp.read, 'a\0', '!ENOENT'],
    ['an unknown operation', 99, '\0', '!ENOSYS'],
    ['the operation that was removed', 20, '\0', '!ENOSYS'],
    ['an event', XsOp.watchEvent, '/a\0t\0', '!ENOSYS'],
    ['an unknown transaction', XsOp.transactionEnd, 'T\0', '!ENOENT'],
    ['permissions of nobody', XsOp.setPermissions, '/a\0', '!EINVAL'],
    ['permissions that are none', XsOp.setPermissions, '/tool\0x0\0', '!EINVAL'],
    ['a domain path', XsOp.getDomainPath, '7\0', '/local/domain/7\0'],
  ])('%s', async (_, type, payload, answer) => {
    expect(await tool.ask(type, payload)).toBe(answer);
  });
});

describe('DIRECTORY_PART', () => {
  it('gives what DIRECTORY cannot', async () => {
    const names = Array.from({ length: 500 }, (_, i) => `a-rather-long-name-${i}`);
    for (const name of names) await ok(tool, XsOp.mkdir, `/d/${name}\0`);
    expect(await tool.ask(XsOp.directory, '/d\0')).toBe('!E2BIG');
    const found: string[] = [];
    const generations = new Set<string>();
    let offset = 0;
    for (let last = false; !last; ) {
      const part = await tool.ask(XsOp.directoryPart, `/d\0${offset}\0`);
      expect(part.length).toBeLessThanOrEqual(4096);
      const [generation, ...rest] = part.slice(0, -1).split('\0');
      generations.add(generation);
      last = rest.at(-1) === '';
      if (last) rest.pop();
      found.push(...rest);
      offset = found.join('\0').length + 1;
    }
    expect(found).toEqual(names);
    expect(generations.size).toBe(1);
  });

  it('changes its generation with the list', async () => {
    const generation = async () => (await tool.ask(XsOp.directoryPart, '/tool\x000\0')).split('\0')[0];
    const before = await generation();
    expect(await generation()).toBe(before);
    await ok(tool, XsOp.mkdir, '/tool/x\0');
    expect(await generation()).not.toBe(before);
  });

  it('ends with an empty name behind the list', async () => {
    expect(await tool.ask(XsOp.directoryPart, '/tool\x00999\0')).toMatch(/^\d+\0\0$/);
    expect(await tool.ask(XsOp.directoryPart, '/tool\0')).toBe('!EINVAL');
  });
});

describe('permissions', () => {
  it.each([
    ['n0', '!EACCES', '!EACCES'],
    ['r0', 'v', '!EACCES'],
    ['w0', '!EACCES', 'OK\0'],
    ['b0', 'v', 'OK\0'],
    ['n5', 'v', 'OK\0'],
    ['n0 r5', 'v', '!EACCES'],
    ['b0 n5', '!EACCES', '!EACCES'],
    ['n0 w5', '!EACCES', 'OK\0'],
    ['n0 r6 b5', 'v', 'OK\0'],
    ['n0 n5 b5', '!EACCES', '!EACCES'],
  ])('%s: domain 5 reads %j, writes %j', async (permissions, reads, writes) => {
    const domain = await guest(5);
    await guest(6);
    await ok(tool, XsOp.write, '/a\0v');
    await ok(tool, XsOp.setPermissions, `/a\0${permissions.replaceAll(' ', '\0')}\0`);
    expect(await domain.ask(XsOp.read, '/a\0')).toBe(reads);
    expect(await domain.ask(XsOp.write, '/a\0w')).toBe(writes);
  });

  it('let a domain make nodes in its home, which it then owns', async () => {
    const domain = await guest(5);
    await ok(domain, XsOp.write, 'device/vbd/state\x001');
    expect(await tool.ask(XsOp.getPermissions, '/local/domain/5/device/vbd\0')).toBe('n5\0');
    expect(await domain.ask(XsOp.write, '/other\0x')).toBe('!EACCES');
    expect(await domain.ask(XsOp.write, '../6/x\0x')).toBe('!EINVAL');
  });

  it('are inherited, but the maker becomes the owner', async () => {
    const domain = await guest(5);
    await ok(tool, XsOp.setPermissions, '/local/domain/5\0b0\0r6\0');
    await ok(domain, XsOp.mkdir, 'x\0');
    expect(await tool.ask(XsOp.getPermissions, '/local/domain/5/x\0')).toBe('b5\0r6\0');
    await ok(tool, XsOp.mkdir, '/local/domain/5/x/y\0');
    expect(await tool.ask(XsOp.getPermissions, '/local/domain/5/x/y\0')).toBe('b5\0r6\0');
  });

  it('are changed by the owner only, who cannot give the node away', async () => {
    const domain = await guest(5);
    await ok(domain, XsOp.mkdir, 'x\0');
    await ok(domain, XsOp.setPermissions, 'x\0n5\0r0\0');
    expect(await domain.ask(XsOp.setPermissions, 'x\0n0\0')).toBe('!EPERM');
    await ok(tool, XsOp.setPermissions, '/local/domain/5/x\0b0\0');
    expect(await domain.ask(XsOp.setPermissions, 'x\0b0\0')).toBe('!EACCES');
  });

  it('hide whether a node exists', async () => {
    const domain = await guest(5);
    await ok(tool, XsOp.write, '/secret/there\0x');
    expect(await domain.ask(XsOp.read, '/secret/there\0')).toBe('!EACCES');
    expect(await domain.ask(XsOp.read, '/secret/missing\0')).toBe('!EACCES');
    expect(await domain.ask(XsOp.read, 'missing\0')).toBe('!ENOENT');
  });

  it('keep guests from the operations of tools', async () => {
    const domain = await guest(5);
    for (const type of [
      XsOp.control,
      XsOp.introduce,
      XsOp.release,
      XsOp.isDomainIntroduced,
      XsOp.resume,
      XsOp.setTarget,
    ]) {
      expect(await domain.ask(type, '5\0')).toBe('!EACCES');
    }
  });

  it('of a target are those of its device model (SET_TARGET)', async () => {
    const stub = await guest(6);
    await guest(5);
    await ok(tool, XsOp.write, '/local/domain/5/x\0v');
    expect(await stub.ask(XsOp.read, '/local/domain/5/x\0')).toBe('!EACCES');
    await ok(tool, XsOp.setTarget, '6\x005\0');
    expect(await stub.ask(XsOp.read, '/local/domain/5/x\0')).toBe('v');
  });
});
