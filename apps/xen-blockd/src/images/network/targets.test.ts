import { describe, expect, it } from 'vitest';
import { CephConf, hasKeyOf } from './ceph-conf.js';
import { iscsiTarget } from './iscsi-target.js';
import { checkNetwork } from './policy.js';
import { rbdTarget } from './rbd-target.js';

describe('a target in a Ceph cluster', () => {
  it.each([
    ['rbd:pool/image', { pool: 'pool', image: 'image' }],
    ['rbd:pool/ns/image@snap', { pool: 'pool', namespace: 'ns', image: 'image', snapshot: 'snap' }],
    ['rbd:p/i:id=joe:conf=/etc/ceph/b.conf', { pool: 'p', image: 'i', user: 'joe', conf: '/etc/ceph/b.conf' }],
    ['rbd:p\\/q/i\\@j\\:k:reconnect-seconds=5', { pool: 'p/q', image: 'i@j:k', reconnectSeconds: 5 }],
  ])('%s is taken apart', (target, parts) => {
    const undefinedParts = { namespace: undefined, snapshot: undefined, user: undefined, conf: undefined };
    expect(rbdTarget(target)).toEqual({ ...undefinedParts, reconnectSeconds: undefined, ...parts });
  });

  it.each([
    ['rbd:', /expected rbd:POOL\/IMAGE/],
    ['rbd:pool', /expected rbd:POOL\/IMAGE/],
    ['rbd:pool/', /expected rbd:POOL\/IMAGE/],
    ['rbd:a/b/c/d', /expected rbd:POOL\/IMAGE/],
    ['rbd:pool/i@', /expected rbd:POOL\/IMAGE/],
    ['rbd:pool/i@a@b', /expected rbd:POOL\/IMAGE/],
    ['rbd:pool/i:mon_host=1.2.3.4', /option mon_host is not taken from a target; known are id, conf/],
    ['rbd:pool/i:keyring=/etc/shadow', /option keyring is not taken from a target/],
    ['rbd:pool/i:conf=ceph.conf', /conf=ceph.conf is no absolute path/],
    ['rbd:pool/i:id=client.joe', /id=client.joe: write it without client\./],
    ['rbd:pool/i:id=a:id=b', /option id has no value, or is there twice/],
    ['rbd:pool/i:id=a --mon-host=b', /a name without spaces/],
    ['rbd:pool/i:id=../../srv/images', /a name without spaces and slashes/],
    ['rbd:pool/i:reconnect-seconds=0', /reconnect-seconds=0; expected a whole number from 1/],
  ])('%s is refused with what is wrong', (target, error) => {
    expect(() => rbdTarget(target)).toThrow(error);
    expect(() => rbdTarget(target)).toThrow(expect.objectContaining({ code: 'ERR_IMAGE', path: target }));
  });
});

describe('a target on an iSCSI server', () => {
  it('is taken apart', () => {
    expect(iscsiTarget('iscsi://joe@[::1]:33/iqn.2026-01.org.x:a%3Ab/2')).toEqual({
      ...{ host: '[::1]', port: 33, iqn: 'iqn.2026-01.org.x:a:b', lun: 2, user: 'joe', reconnectSeconds: undefined },
    });
    expect(iscsiTarget('iscsi://san1/iqn.x/0?reconnect-seconds=30')).toMatchObject({ lun: 0, reconnectSeconds: 30 });
    expect(iscsiTarget('iscsi://san1/iqn.x/0')).toMatchObject({ host: 'san1', port: 3260, lun: 0, user: undefined });
  });

  it.each([
    ['iscsi:', /expected iscsi:\/\/HOST:PORT\/IQN\/LUN/],
    ['iscsi://host', /expected iscsi/],
    ['iscsi://host/iqn', /expected iscsi/],
    ['iscsi://host/iqn/one', /expected iscsi/],
    ['iscsi://host/iqn/1/2', /expected iscsi/],
    ['iscsi://host:99999/iqn/1', /expected iscsi/],
    ['iscsi://host/iqn%/1', /expected iscsi/],
    ['iscsi://host/iqn/99999', /LUN 99999 is more than 16383/],
    ['iscsi://host/iqn/1?timeout=3', /timeout is not known/],
    ['iscsi://host/iqn/1?reconnect-seconds=0', /reconnect-seconds=0; expected a whole number from 1/],
  ])('%s is refused with what is wrong', (target, error) => {
    expect(() => iscsiTarget(target)).toThrow(error);
  });

  it.each(['iscsi://joe:hunter2@host/iqn/1', 'iscsi://joe%hunter2@host/iqn/1', 'iscsi://joe:a/hunter2@host/iqn/1'])(
    'with a password, %s, is refused, and it is not told',
    (target) => {
      expect(() => iscsiTarget(target)).toThrow(/a password is not taken from a target.*iscsi-secrets/);
      expect(() => iscsiTarget(target)).not.toThrow(/hunter2/);
    },
  );
});

describe('a configuration of a cluster', () => {
  it('names keyrings by client, then for all', () => {
    const text =
      '[global]\nkeyring = /a/$cluster.$name\n[client.joe]\n  Key Ring = /no\n keyring = "/b/$id, /c" ; mine\n';
    expect(new CephConf(text, 'joe').keyrings).toEqual(['/b/joe', '/c']);
    expect(new CephConf(text, 'ann').keyrings).toEqual(['/a/ceph.client.ann']);
    expect(new CephConf('', 'ann').keyrings[0]).toBe('/etc/ceph/ceph.client.ann.keyring');
  });

  it('needs none where nobody proves who he is', () => {
    expect(new CephConf('[global]\nauth_client_required = none', 'a').needsKeyring).toBe(false);
    expect(new CephConf('[global]\nauth client required = cephx', 'a').needsKeyring).toBe(true);
    expect(new CephConf('[client]\nkey = AQ==', 'a').needsKeyring).toBe(false);
    expect(new CephConf('', 'a').needsKeyring).toBe(true);
  });

  it('a keyring has the keys of some', () => {
    expect(hasKeyOf('[client.a]\n\tkey = AQ==\n[client.b]\n\tcaps mon = "x"\n', 'a')).toBe(true);
    expect(hasKeyOf('[client.a]\n\tkey = AQ==\n[client.b]\n\tcaps mon = "x"\n', 'b')).toBe(false);
  });
});

describe('what the configuration allows', () => {
  it.each([
    ['rbd:vms/a', { rbdPools: ['vms'] }, undefined],
    ['rbd:vms/a', {}, undefined],
    ['rbd:vms/a', { rbdPools: ['other'] }, 'the pool vms is none of rbd-pools (other)'],
    ['rbd:vms/a', { directories: ['/srv'] }, 'is not allowed: image-directories is set, and rbd-pools is not'],
    ['rbd:vms/a:conf=/tmp/x', { rbdPools: ['vms'] }, 'conf=/tmp/x is not /etc/ceph/ceph.conf'],
    ['iscsi://[::1]/iqn/1', { iscsiHosts: ['::1'] }, undefined],
    ['iscsi://b/iqn/1', { iscsiHosts: ['a'] }, 'the server b is none of iscsi-hosts (a)'],
    ['iscsi://b/iqn/1', { directories: [] }, 'image-directories is set, and iscsi-hosts is not'],
  ])('%s with %j', (target, options, error) => {
    const check = () => checkNetwork(target, target.startsWith('rbd:') ? 'rbd' : 'iscsi', options);
    if (error === undefined) expect(check).not.toThrow();
    else expect(check).toThrow(error);
  });
});
