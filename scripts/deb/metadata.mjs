/** What dpkg keeps about a package, and the copyright file. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { StepError } from '../lib/steps.mjs';
import { ROOT } from '../lib/workspace.mjs';

const MAINTAINER = 'xenpv <xenpv@users.noreply.github.com>';
const HOMEPAGE = 'https://github.com/xenpv/xen-blockd';

/** DEBIAN/control. */
export function controlFile({ version, architecture, depends, installedKib }) {
  return `Package: xen-blockd
Version: ${version}
Architecture: ${architecture}
Maintainer: ${MAINTAINER}
Installed-Size: ${installedKib}
Depends: ${depends.join(', ')}
Recommends: xenstore-utils
Suggests: qemu-system-common, xen-utils-common
Section: admin
Priority: optional
Homepage: ${HOMEPAGE}
Description: block backend for Xen guests, in dom0 or a storage driver domain
 xen-blockd serves disk images to Xen guests over the paravirtual block
 protocol, as QEMU's qdisk, Linux's xen-blkback and tapdisk do. It runs under
 an unmodified xl. Raw files and block devices are served through io_uring;
 qcow2, VHD and other formats through a supervised qemu-storage-daemon.
 .
 Guests survive a restart, an upgrade and a crash of the daemon: their disks
 pause and go on.
`;
}

/** DEBIAN/md5sums, of these files: paths below \`root\`. */
export function md5sums(root, files) {
  const line = (path) =>
    `${createHash('md5')
      .update(readFileSync(join(root, path)))
      .digest('hex')}  ${path}\n`;
  return files.map(line).join('');
}

/** changelog.gz's text: dpkg and apt want one, and it says which commit this is. */
export function changelog({ version, date }) {
  const when = new Date(date * 1000).toUTCString().replace('GMT', '+0000');
  return `xen-blockd (${version}) unstable; urgency=medium

  * Made by npm run deb. Changes: ${HOMEPAGE}/releases

 -- ${MAINTAINER}  ${when}
`;
}

/** The machine-readable copyright file: ours, each library's from npm, and Node's where it is inside. */
export function copyrightFile(libraries, nodeLicence) {
  const header = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: xen-blockd
Source: ${HOMEPAGE}
`;
  const stanzas = [
    { files: '*', ...licenceOf(ROOT, 'MIT', 'xen-blockd') },
    ...libraries.map(({ folder, manifest: { name, license } }) => ({
      files: `usr/lib/xen-blockd/node_modules/${name}/*`,
      ...licenceOf(folder, license, name.replace(/[^A-Za-z0-9.-]+/g, '-').replace(/^-/, '')),
    })),
    ...(nodeLicence === undefined
      ? []
      : [
          {
            files: 'usr/lib/xen-blockd/bin/node',
            copyright: 'Node.js contributors and others, named in the text',
            licence: 'Node.js',
            text: nodeLicence,
          },
        ]),
  ];
  const formatted = stanzas.map(
    ({ files, copyright, licence, text }) =>
      `\nFiles: ${files}\nCopyright: ${copyright}\nLicense: ${licence}\n${indented(text)}\n`,
  );
  return header + formatted.join('');
}

/** What a folder says of its licence. Error: StepError where it says nothing, since it may not be passed on then. */
function licenceOf(folder, licence, name) {
  const file = readdirSync(folder).find((entry) => /^(licen[cs]e|copying)(\.|$)/i.test(entry));
  if (!licence) throw new StepError('deb', `${folder}/package.json names no licence`);
  if (licence === 'Apache-2.0') return { copyright: AUTHORS, licence, text: APACHE };
  // Few old libraries have their licence in their README only.
  const readme = ['README.md', 'Readme.md', 'readme.md'].find((entry) => existsSync(join(folder, entry)));
  const text = file
    ? readFileSync(join(folder, file), 'utf8')
    : (/^#+\s*licen[cs]e[\s\S]*/im.exec(readme ? readFileSync(join(folder, readme), 'utf8') : '')?.[0] ?? '');
  if (text.trim() === '') throw new StepError('deb', `${folder} has no text of its licence`);
  return { copyright: copyrightIn(text), licence: `${licence.replace(/[()]/g, '')}-${name}`, text };
}

/** Every Debian has this text; packages may not have it again. */
const APACHE = 'On Debian systems the whole text is in /usr/share/common-licenses/Apache-2.0.';

const AUTHORS = 'the authors, named in its package.json';

function copyrightIn(text) {
  return /copyright (?:\(c\)|©)?.*/i.exec(text)?.[0].trim() ?? AUTHORS;
}

function indented(text) {
  return text
    .trim()
    .split('\n')
    .map((line) => (line.trim() === '' ? ' .' : ` ${line.trimEnd()}`))
    .join('\n');
}
