import { XsOp } from '@xenpv/xenstore';
import { beforeEach, describe, expect, it } from 'vitest';
import { RawClient } from '../testing/raw-client.js';
import { daemon, guest, ok, start, tool } from '../testing/scene.js';

beforeEach(() => start());

describe('the daemon of 4.22', () => {
  beforeEach(() => start({ version: '4.22' }));

  it('has features, which domains may be denied before they are introduced', async () => {
    expect(await tool.ask(XsOp.getFeature, '')).toBe('6\0');
    await ok(tool, XsOp.setFeature, '5\x002\0');
    expect(await tool.ask(XsOp.getFeature, '5\0')).toBe('2\0');
    expect(await tool.ask(XsOp.setFeature, '5\x001\0')).toBe('!EINVAL');
    daemon.introduceDomain(5);
    expect(await tool.ask(XsOp.setFeature, '5\x006\0')).toBe('!EBUSY');
    const domain = RawClient.onTransport(daemon.connect(5));
    expect(await domain.ask(XsOp.getFeature, '')).toBe('2\0');
    expect(await domain.ask(XsOp.getFeature, '0\0')).toBe('!EACCES');
    expect(await domain.ask(XsOp.setFeature, '5\x002\0')).toBe('!EACCES');
  });

  it('has quotas by domain', async () => {
    const domain = await guest(5);
    expect(await tool.ask(XsOp.getQuota, '')).toContain('nodes watches transactions');
    expect(await tool.ask(XsOp.getQuota, 'watches\0')).toBe('128\0');
    await ok(tool, XsOp.setQuota, '5\0watches\x001\0');
    expect(await tool.ask(XsOp.getQuota, '5\0watches\0')).toBe('1\0');
    expect(await tool.ask(XsOp.getQuota, 'watches\0')).toBe('128\0');
    for (const path of ['a', 'b']) await ok(domain, XsOp.watch, `${path}\0t\0`);
    expect(await domain.ask(XsOp.watch, 'c\0t\0')).toBe('!E2BIG');
    await ok(tool, XsOp.setQuota, '5\0watches\x000\0');
    for (let i = 0; i < 200; i++) await ok(domain, XsOp.watch, `w${i}\0t\0`);
    expect(await tool.ask(XsOp.getQuota, '5\0watches\0')).toBe('0\0');
    for (const payload of ['none\0', '5\0none\0', 'a\0b\0c\0']) {
      expect(await tool.ask(XsOp.getQuota, payload)).toBe('!EINVAL');
    }
    expect(await tool.ask(XsOp.setQuota, 'watches\0-1\0')).toBe('!EINVAL');
  });
});

describe('the daemon of 4.17', () => {
  it.each([
    ['GET_FEATURE', XsOp.getFeature, '0\0'],
    ['SET_FEATURE', XsOp.setFeature, '5\x000\0'],
    ['GET_QUOTA', XsOp.getQuota, 'nodes\0'],
    ['SET_QUOTA', XsOp.setQuota, 'nodes\x001\0'],
  ])('does not know %s', async (_, type, payload) => {
    expect(await tool.ask(type, payload)).toBe('!ENOSYS');
  });
});

describe('CONTROL', () => {
  it.each([
    ['check\0', 'OK\0'],
    ['print\0text\0', 'OK\0'],
    ['log\0on\0', 'OK\0'],
    ['print\0', '!EINVAL'],
    ['nonsense\0', '!EINVAL'],
    ['', '!EINVAL'],
    ['quota\0set\0none\x005\0', '!EINVAL'],
    ['quota\0set\0nodes\0x\0', '!EINVAL'],
    ['quota\x0099\0', '!ENOENT'],
  ])('%j is answered %j', async (payload, answer) => {
    expect(await tool.ask(XsOp.control, payload)).toBe(answer);
  });

  it('shows and sets quotas', async () => {
    const domain = await guest(5);
    expect(await tool.ask(XsOp.control, 'help\0')).toContain('quota');
    expect(await tool.ask(XsOp.control, 'quota\0')).toMatch(/nodes +: +1000 Nodes per domain\n/);
    await ok(tool, XsOp.control, 'quota\0set\0nodes\x002\0');
    await ok(domain, XsOp.mkdir, 'a\0');
    expect(await domain.ask(XsOp.mkdir, 'b\0')).toBe('!ENOSPC');
    expect(await tool.ask(XsOp.control, 'quota\x005\0')).toMatch(/^Domain 5:\nnodes +: +2\n/);
  });
});
