/** What a package promises to those who import it, as text: each export with its types, without comments. */
import { readFileSync } from 'node:fs';
import { join, sep } from 'node:path';
import ts from 'typescript';
import { publishedPackages, ROOT } from './workspace.mjs';

const PRINTER = ts.createPrinter({ removeComments: true, newLine: ts.NewLineKind.LineFeed });
const COMPILER_OPTIONS = {
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  target: ts.ScriptTarget.ES2023,
  lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
  types: ['node'],
  skipLibCheck: true,
  noEmit: true,
};

/**
 * The reports of these libraries of the workspace, or of all: `{ folder, text, strictOptions }`, the last of these the
 * optional properties whose types lack undefined, in words. They are read from the types in dist, which must be built. Errors: one that names the entry point whose types are not there.
 */
export function apiReports(folders) {
  const packages = publishedPackages()
    .filter(({ manifest }) => manifest.exports?.['.'])
    .filter(({ folder }) => folders === undefined || folders.includes(folder))
    .map(({ folder, manifest }) => ({ folder, name: manifest.name, entries: entriesOf(folder, manifest) }));
  const files = packages.flatMap(({ entries }) => entries.map(({ file }) => file));
  const program = ts.createProgram(files, COMPILER_OPTIONS);
  return packages.map((one) => reportOf(program, one));
}

function entriesOf(folder, { name, exports }) {
  return Object.entries(exports)
    .filter(([, target]) => typeof target === 'object')
    .map(([entry, target]) => ({ name: join(name, entry), file: join(ROOT, folder, target.import.types) }));
}

function reportOf(program, { folder, name, entries }) {
  const found = entries.map((entry) => sectionOf(program, join(ROOT, folder), entry));
  const sections = found.map(({ text }) => text);
  const strictOptions = [...new Set(found.flatMap(({ strictOptions }) => strictOptions))];
  const head = `# What ${name} exports

Made from the package's types by \`node scripts/api-reports.mjs\`, and checked by \`npm test\`: whoever changes what users see,
sees it here. Comments and private members are left out.
`;
  return { folder, text: [head, ...sections].join('\n'), strictOptions };
}

function sectionOf(program, folder, { name, file }) {
  const source = program.getSourceFile(file);
  if (!source) throw new Error(`${file}: no types; npx tsup --dts-only in ${folder} builds them`);
  const checker = program.getTypeChecker();
  const own = new OwnSymbols(checker, folder);
  const module = checker.getSymbolAtLocation(source);
  const exported = module ? checker.getExportsOfModule(module) : [];
  const meanings = exported.map((symbol) => ({ symbol, meaning: own.meaningOf(symbol) }));
  const published = new Set(meanings.map(({ meaning }) => meaning));
  const texts = meanings.sort(byName(({ symbol }) => symbol.name)).map((one) => own.textOfExport(one));
  const hidden = own.reachedFrom(published).sort(byName((symbol) => symbol.name));
  const parts = [`## \`${name}\`\n`, ...block(texts.length === 0 ? ['export {};'] : texts)];
  const strictOptions = [...published, ...hidden].flatMap((symbol) => own.strictOptionsOf(symbol));
  if (hidden.length === 0) return { text: parts.join('\n'), strictOptions };
  const note = '\nNot exported, but named by what is:\n';
  return { text: [...parts, note, ...block(hidden.map((symbol) => own.textOf(symbol)))].join('\n'), strictOptions };
}

const block = (texts) => ['```ts', texts.join('\n\n'), '```\n'];

/** Not by locale: a report is the same on every machine. */
const byName = (nameOf) => (a, b) => (nameOf(a) < nameOf(b) ? -1 : nameOf(a) > nameOf(b) ? 1 : 0);

/** The symbols that a package declares itself. */
class OwnSymbols {
  #checker;
  #folder;

  constructor(checker, folder) {
    this.#checker = checker;
    this.#folder = `${join(folder, 'dist')}${sep}`;
  }

  /** What a name stands for, through imports and exports. */
  meaningOf(symbol) {
    return symbol.flags & ts.SymbolFlags.Alias ? this.#checker.getAliasedSymbol(symbol) : symbol;
  }

  textOfExport({ symbol, meaning }) {
    const [declaration] = meaning.declarations ?? [];
    if (declaration === undefined || !this.#isOwn(declaration))
      return `export { ${symbol.name} }; // of another package`;
    const text = this.textOf(meaning);
    if (symbol.name === meaning.name) return text.replaceAll(/^(?!export |\s|\})/gm, 'export ');
    return `${text}\nexport { ${meaning.name} as ${symbol.name} };`;
  }

  textOf(symbol) {
    return symbol.declarations.map((declaration) => printed(statementOf(declaration))).join('\n');
  }

  /**
   * The optional properties in a symbol's declarations whose types do not say undefined. With exactOptionalPropertyTypes
   * their users cannot hand on an option that they were not given themselves.
   */
  strictOptionsOf(symbol) {
    const found = [];
    const visit = (node) => {
      if (isPrivate(node)) return;
      if (isOptionalProperty(node) && !saysUndefined(node.type)) {
        found.push(`${symbol.name}: ${node.name?.getText() ?? node.getText()}? without "| undefined"`);
      }
      ts.forEachChild(node, visit);
    };
    for (const declaration of (symbol.declarations ?? []).filter((node) => this.#isOwn(node))) visit(declaration);
    return found;
  }

  /** The package's own symbols that the declarations of these name, and theirs, without these. */
  reachedFrom(symbols) {
    const seen = new Set(symbols);
    const waiting = [...symbols];
    for (let symbol = waiting.pop(); symbol; symbol = waiting.pop()) {
      for (const declaration of (symbol.declarations ?? []).filter((node) => this.#isOwn(node))) {
        for (const named of this.#namedIn(statementOf(declaration))) {
          if (seen.has(named)) continue;
          seen.add(named);
          waiting.push(named);
        }
      }
    }
    const published = new Set(symbols);
    return [...seen].filter((symbol) => !published.has(symbol));
  }

  #namedIn(root) {
    const found = [];
    const visit = (node) => {
      if (isPrivate(node)) return;
      if (ts.isIdentifier(node)) {
        const symbol = this.#checker.getSymbolAtLocation(node);
        const meaning = symbol && this.meaningOf(symbol);
        if (meaning && this.#isTopLevel(meaning)) found.push(meaning);
      }
      ts.forEachChild(node, visit);
    };
    visit(root);
    return found;
  }

  #isTopLevel({ declarations }) {
    const [declaration] = declarations ?? [];
    return declaration !== undefined && this.#isOwn(declaration) && ts.isSourceFile(statementOf(declaration).parent);
  }

  #isOwn(node) {
    return node.getSourceFile().fileName.startsWith(this.#folder);
  }
}

/** A variable is printed with its `declare const`. */
function statementOf(declaration) {
  return ts.isVariableDeclaration(declaration) ? declaration.parent.parent : declaration;
}

/** One that users may give: not a class's own, nor a mark that is of types only, as xen-sys has on its numbers. */
function isOptionalProperty(node) {
  if (!ts.isPropertySignature(node) && !ts.isMappedTypeNode(node)) return false;
  if (ts.isPropertySignature(node) && ts.isStringLiteral(node.name) && node.name.text.startsWith('~')) return false;
  return node.questionToken !== undefined && node.questionToken.kind !== ts.SyntaxKind.MinusToken;
}

function saysUndefined(type) {
  if (type === undefined || ts.isUnionTypeNode(type)) return type === undefined || type.types.some(saysUndefined);
  const { UndefinedKeyword, UnknownKeyword, AnyKeyword } = ts.SyntaxKind;
  return [UndefinedKeyword, UnknownKeyword, AnyKeyword].includes(type.kind);
}

function isPrivate(node) {
  if (!ts.isClassElement(node)) return false;
  const isKeyword = (modifier) => modifier.kind === ts.SyntaxKind.PrivateKeyword;
  return (node.name !== undefined && ts.isPrivateIdentifier(node.name)) || (node.modifiers ?? []).some(isKeyword);
}

function printed(node) {
  const withoutPrivate = (context) => (root) => {
    const visit = (child) => (isPrivate(child) ? undefined : ts.visitEachChild(child, visit, context));
    return ts.visitNode(root, visit);
  };
  const { transformed } = ts.transform(node, [withoutPrivate]);
  return PRINTER.printNode(ts.EmitHint.Unspecified, transformed[0], node.getSourceFile())
    .replaceAll(/^export /gm, '')
    .replaceAll(/^declare /gm, '');
}

/** The report that is checked in; the empty string where there is none. */
export function checkedInReport(folder) {
  try {
    return readFileSync(reportPath(folder), 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return '';
    throw error;
  }
}

export const reportPath = (folder) => join(ROOT, folder, 'api.md');
