import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { expect, it } from 'vitest';
import { packageRoot } from '../package-root.js';

interface Panel {
  readonly type: string;
  readonly options?: object;
}
interface Dashboard {
  readonly panels: readonly Panel[];
}

const text = readFileSync(fileURLToPath(new URL('../../packaging/grafana/xen-blockd.json', packageRoot)), 'utf8');

const PANELS = { timeseries: 'TimeSeries', stat: 'Stat', table: 'Table', heatmap: 'Heatmap' };

/** A dashboard as a program: each of its parts is a literal of the type that Grafana publishes for it. */
function asProgram({ panels, ...dashboard }: Dashboard): string {
  const options = Object.entries(PANELS).map(
    ([type, name]) =>
      `${type}: import('@grafana/schema/dist/esm/raw/composable/${type}/panelcfg/x/${name}PanelCfg_types.gen').Options`,
  );
  const parts = panels.flatMap((panel) => {
    if (panel.type === 'row') return [`part<RowPanel>(${JSON.stringify(panel)});`];
    return [
      `part<Panel>(${JSON.stringify(panel)});`,
      `part<Partial<Options['${panel.type}']>>(${JSON.stringify(panel.options)});`,
    ];
  });
  return `
    import type { Dashboard, Panel, RowPanel, VariableModel } from '@grafana/schema';
    interface Options { ${options.join(';')} }
    /** JSON has the values of enums. */
    type Plain<T> = T extends string ? \`\${T}\` : T extends number ? number
      : T extends object ? { [Key in keyof T]: Plain<T[Key]> } : T;
    declare function part<T>(value: Plain<T>): void;
    /** Prometheus' own field of a variable, which its editor shows. */
    type Variable = VariableModel & { definition?: string };
    part<Omit<Dashboard, 'panels' | 'templating'> & { templating: { list: Variable[] } }>(${JSON.stringify(dashboard)});
    ${parts.join('\n')}`;
}

/** What the compiler says about it. */
function problemsOf(dashboard: Dashboard): string[] {
  const file = fileURLToPath(new URL('src/daemon/dashboard-as-program.ts', packageRoot));
  const options: ts.CompilerOptions = {
    ...{ strict: true, noEmit: true, skipLibCheck: true, types: [] },
    ...{ target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.NodeNext },
  };
  const host = ts.createCompilerHost(options);
  const { readFile, fileExists, getSourceFile } = host;
  const program = asProgram(dashboard);
  host.fileExists = (path) => path === file || fileExists(path);
  host.readFile = (path) => (path === file ? program : readFile(path));
  host.getSourceFile = (path, ...rest) =>
    path === file ? ts.createSourceFile(path, program, ts.ScriptTarget.ES2022) : getSourceFile(path, ...rest);
  const found = ts.getPreEmitDiagnostics(ts.createProgram([file], options, host));
  return found.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'));
}

it('the dashboard, its variables, and its panels with their options have the types that Grafana publishes', () => {
  expect(problemsOf(JSON.parse(text))).toEqual([]);
}, 60_000);

it.each([
  ['an option that a panel does not know', '"showLegend":', '"showsLegend":'],
  ['a value that an option does not have', '"displayMode": "table"', '"displayMode": "tables"'],
  ['a variable that is hidden by a word', '"name": "datasource"', '"hide": "yes", "name": "datasource"'],
])(
  '%s is found',
  (_, right, wrong) => {
    expect(text).toContain(right);
    expect(problemsOf(JSON.parse(text.replace(right, wrong)))).not.toEqual([]);
  },
  60_000,
);
