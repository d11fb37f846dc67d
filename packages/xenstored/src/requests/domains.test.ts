import { XsOp } from '@xenpv/xenstore';
import { beforeEach, describe, expect, it } from 'vitest';
import { daemon, guest, ok, start, tool } from '../testing/scene.js';

beforeEach(() => start());

describe('domains', () => {
  it('are told of by special watches, once', async () => {
    for (const name of ['@introduceDomain', '@releaseDomain']) await ok(tool, XsOp.watch, `${name}\0t\0`);
    expect(await tool.takeEvents()).toEqual(['@introduceDomain t', '@releaseDomain t']);
    daemon.introduceDomain(5);
    daemon.introduceDomain(5);
    expect(await tool.takeEvents()).toEqual(['@introduceDomain t']);
    expect(await tool.ask(XsOp.isDomainIntroduced, '5\0')).toBe('T\0');
    for (const round of [1, 2]) {
      daemon.domainShutDown(5);
      daemon.domainShutDown(5);
      expect([round, await tool.takeEvents()]).toEqual([round, ['@releaseDomain t']]);
      await ok(tool, XsOp.resume, '5\0');
    }
    daemon.releaseDomain(5);
    daemon.releaseDomain(5);
    expect(await tool.takeEvents()).toEqual(['@releaseDomain t']);
    expect(await tool.ask(XsOp.isDomainIntroduced, '5\0')).toBe('F\0');
  });

  it('hear of others only with permission', async () => {
    const domain = await guest(5);
    await ok(domain, XsOp.watch, '@releaseDomain\0t\0');
    await domain.takeEvents();
    daemon.introduceDomain(6);
    daemon.releaseDomain(6);
    expect(await domain.takeEvents()).toEqual([]);
    await ok(tool, XsOp.setPermissions, '@releaseDomain\0n0\0r5\0');
    daemon.introduceDomain(6);
    daemon.releaseDomain(6);
    expect(await domain.takeEvents()).toEqual(['@releaseDomain t']);
    expect(await domain.ask(XsOp.setPermissions, '@releaseDomain\0n5\0')).toBe('!EACCES');
    expect(await tool.ask(XsOp.setPermissions, '@else\0n5\0')).toBe('!EINVAL');
  });

  it('lose their connection, watches and nodes when released', async () => {
    const domain = await guest(5);
    await ok(domain, XsOp.write, 'data/x\0v');
    await ok(domain, XsOp.watch, 'data\0t\0');
    await ok(tool, XsOp.watch, '/local/domain\0t\0');
    await tool.takeEvents();
    await ok(tool, XsOp.release, '5\0');
    await domain.untilClosed();
    expect(daemon.watchCount).toBe(1);
    expect(await tool.ask(XsOp.read, '/local/domain/5\0')).toBe('!ENOENT');
    expect(await tool.takeEvents()).toEqual(['/local/domain/5 t']);
  });

  it('do not inherit what a domain of the same number was allowed', async () => {
    await guest(5);
    await ok(tool, XsOp.write, '/shared\0v');
    await ok(tool, XsOp.setPermissions, '/shared\0n0\0r5\0');
    daemon.releaseDomain(5);
    const successor = await guest(5);
    expect(await successor.ask(XsOp.read, '/shared\0')).toBe('!EACCES');
    expect(await tool.ask(XsOp.getPermissions, '/shared\0')).toBe('n0\0r5\0');
    await ok(tool, XsOp.setPermissions, '/shared\0n0\0r5\0');
    expect(await successor.ask(XsOp.read, '/shared\0')).toBe('v');
  });

  it('must exist to own a node', async () => {
    start({ domainExists: (domid) => domid < 10 });
    await ok(tool, XsOp.mkdir, '/a\0');
    expect(await tool.ask(XsOp.setPermissions, '/a\0n77\0')).toBe('!ENOENT');
    await ok(tool, XsOp.setPermissions, '/a\0n0\0r77\0');
    expect(await tool.ask(XsOp.introduce, '77\x001\x002\0')).toBe('!EINVAL');
    expect(() => daemon.connect(77)).toThrow(/no domain 77/);
    expect(() => daemon.connect(-1)).toThrow(expect.objectContaining({ code: 'ESRCH' }));
  });

  it('that tools introduce are reported to the host', async () => {
    const introduced: number[][] = [];
    const released: number[] = [];
    start({
      onIntroduce: (domid, port) => introduced.push([domid, port]),
      onRelease: (domid) => released.push(domid),
    });
    await ok(tool, XsOp.introduce, '5\x001\x007\0');
    await ok(tool, XsOp.resume, '5\0');
    await ok(tool, XsOp.release, '5\0');
    expect([introduced, released]).toEqual([[[5, 7]], [5]]);
    expect(await tool.ask(XsOp.release, '5\0')).toBe('!ENOENT');
    expect(await tool.ask(XsOp.introduce, '5\x001\x000\0')).toBe('!EINVAL');
  });
});
