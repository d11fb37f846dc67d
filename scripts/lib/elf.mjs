/** What a shared library of 64 bits, little endian, asks of the machine that loads it: the ELF specification, and its gABI. */
import { readFileSync } from 'node:fs';

const MACHINES = { 62: 'x64', 183: 'arm64' };
const SectionType = { dynamic: 6, dynamicSymbols: 11, neededVersions: 0x6ffffffe };
const DT_NEEDED = 1;
const SHN_UNDEF = 0;
const STB_WEAK = 2;
const SYMBOL_BYTES = 24;

/**
 * `{ arch, libraries, versions, symbols }`: Node's name of the processor, the libraries that it names, the versions that it
 * needs of them: `{ library, version }`, and all that the loader sees of it: `{ name, defined, weak }`.
 * Errors: TypeError for what is no such file.
 */
export function readRequirements(path) {
  const file = readFileSync(path);
  if (file.length < 64 || file.readUInt32BE(0) !== 0x7f454c46 || file[4] !== 2 || file[5] !== 1) {
    throw new TypeError(`${path} is no ELF file of 64 bits, little endian`);
  }
  const machine = file.readUInt16LE(0x12);
  const arch = MACHINES[machine];
  if (arch === undefined) throw new TypeError(`${path} is for the processor ${machine}, which is not known here`);
  const sections = sectionsOf(file);
  const text = (section, at) => {
    const from = sections[section.link].offset + at;
    return file.toString('latin1', from, file.indexOf(0, from));
  };
  const ofType = (type) => sections.filter((section) => section.type === type);
  return {
    arch,
    libraries: ofType(SectionType.dynamic).flatMap((section) => neededLibraries(file, section, text)),
    versions: ofType(SectionType.neededVersions).flatMap((section) => neededVersions(file, section, text)),
    symbols: ofType(SectionType.dynamicSymbols).flatMap((section) => dynamicSymbols(file, section, text)),
  };
}

function sectionsOf(file) {
  const [table, size, count] = [Number(file.readBigUInt64LE(0x28)), file.readUInt16LE(0x3a), file.readUInt16LE(0x3c)];
  return Array.from({ length: count }, (_, index) => {
    const at = table + index * size;
    return {
      type: file.readUInt32LE(at + 4),
      offset: Number(file.readBigUInt64LE(at + 0x18)),
      bytes: Number(file.readBigUInt64LE(at + 0x20)),
      link: file.readUInt32LE(at + 0x28),
      entries: file.readUInt32LE(at + 0x2c),
    };
  });
}

function neededLibraries(file, section, text) {
  const found = [];
  for (let at = section.offset; at < section.offset + section.bytes; at += 16) {
    if (Number(file.readBigUInt64LE(at)) === DT_NEEDED) found.push(text(section, Number(file.readBigUInt64LE(at + 8))));
  }
  return found;
}

/** Without the first, which has no name, as those of sections have none. */
function dynamicSymbols(file, section, text) {
  const found = [];
  for (let at = section.offset; at < section.offset + section.bytes; at += SYMBOL_BYTES) {
    const name = text(section, file.readUInt32LE(at));
    const defined = file.readUInt16LE(at + 6) !== SHN_UNDEF;
    if (name !== '') found.push({ name, defined, weak: file[at + 4] >> 4 === STB_WEAK });
  }
  return found;
}

/** Two lists in each other: libraries, and the versions of each. */
function neededVersions(file, section, text) {
  const found = [];
  let at = section.offset;
  for (let left = section.entries; left > 0; left--) {
    const library = text(section, file.readUInt32LE(at + 4));
    let version = at + file.readUInt32LE(at + 8);
    for (let more = file.readUInt16LE(at + 2); more > 0; more--) {
      found.push({ library, version: text(section, file.readUInt32LE(version + 8)) });
      version += file.readUInt32LE(version + 12);
    }
    at += file.readUInt32LE(at + 12);
  }
  return found;
}
