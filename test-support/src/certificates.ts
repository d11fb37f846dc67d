import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Keys and certificates of an authority, a server and a client, in a folder, under the names that QEMU has for them. */
export function makeCertificates(folder: string, { serverNames }: { readonly serverNames: string }): void {
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
  const key = (name: string) => ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', name];
  openssl('req', '-x509', ...key('ca-key.pem'), '-out', 'ca-cert.pem', '-days', '2', '-subj', '/CN=authority');
  for (const [who, extension] of [
    ['server', `subjectAltName=${serverNames}`],
    ['client', 'extendedKeyUsage=clientAuth'],
  ]) {
    openssl('req', ...key(`${who}-key.pem`), '-out', `${who}.csr`, '-subj', `/CN=${who}`);
    writeFileSync(join(folder, `${who}.ext`), extension);
    const by = ['-CA', 'ca-cert.pem', '-CAkey', 'ca-key.pem', '-CAcreateserial', '-days', '2'];
    openssl('x509', '-req', '-in', `${who}.csr`, ...by, '-out', `${who}-cert.pem`, '-extfile', `${who}.ext`);
  }
  // Without it QEMU's server looks for a prime of its own at each start, for up to half a minute.
  openssl('genpkey', '-genparam', '-algorithm', 'DH', '-pkeyopt', 'group:ffdhe2048', '-out', 'dh-params.pem');
}

/** What a client says and believes that has the certificates of a folder. */
export function clientOf(folder: string): { readonly ca: string; readonly cert: string; readonly key: string } {
  const read = (name: string) => readFileSync(join(folder, name), 'utf8');
  return { ca: read('ca-cert.pem'), cert: read('client-cert.pem'), key: read('client-key.pem') };
}
