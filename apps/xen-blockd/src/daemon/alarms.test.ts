import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { needs } from '@xenpv/test-support';
import { describe, expect, it, vi } from 'vitest';
import { packageRoot } from '../package-root.js';
import { TestDaemon } from '../testing/daemon.js';
import { Scrape } from '../testing/scrape.js';
import { runTool } from '../tools.js';

vi.setConfig({ testTimeout: 60_000 });

const inRepository = (path: string) => fileURLToPath(new URL(`../../${path}`, packageRoot));
const RULES = inRepository('packaging/prometheus/xen-blockd.rules.yml');
const CASES = inRepository('packaging/prometheus/xen-blockd.rules.test.yml');
const DASHBOARD = inRepository('packaging/grafana/xen-blockd.json');
const OPERATIONS = inRepository('docs/operations.md');

interface Panel {
  readonly title: string;
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
}
interface Dashboard {
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly { readonly name: string; readonly definition?: string }[] };
}

const read = (path: string) => readFileSync(path, 'utf8');
const dashboard = JSON.parse(read(DASHBOARD)) as Dashboard;
const expressions = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
const definitions = dashboard.templating.list.map(({ definition = '' }) => definition);

async function promtool(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await runTool('promtool', args);
  return `${code}: ${stdout}${stderr}`;
}

/** What a daemon with a connected disk really exports: names with what a histogram adds to them, and labels of each. */
async function exported(): Promise<{ names: Set<string>; labels: Set<string> }> {
  await using daemon = await TestDaemon.create();
  const metrics = daemon.host.path('metrics');
  void daemon.start({ metrics });
  await daemon.says('ready');
  const { domid } = await daemon.attach();
  await daemon.host.connectGuest(domid);
  const { families, samples } = await Scrape.from(metrics);
  return {
    names: new Set([...Object.keys(families), ...samples.map(({ name }) => name)]),
    labels: new Set(samples.flatMap(({ labels }) => Object.keys(labels))),
  };
}

const namesIn = (text: string) => [...text.matchAll(/\b(?:xen_blockd|process)_[a-z_]+\b/g)].map(([name]) => name);
/** Labels that a text takes from a metric: `{{ $labels.guest }}`, `{{guest}}`. */
const labelsIn = (text: string) => [...text.matchAll(/\{\{ ?(?:\$labels\.)?([a-z]+) ?\}\}/g)].map(([, name]) => name);

describe('the alerts and the dashboard', () => {
  it('name only metrics and labels that the daemon exports', async () => {
    const { names, labels } = await exported();
    const used = new Set(namesIn([read(RULES), ...expressions, ...definitions].join('\n')));
    expect(used.size).toBeGreaterThan(25);
    expect([...used].filter((name) => !names.has(name))).toEqual([]);
    // Prometheus adds these, an error brings that one.
    for (const label of ['job', 'instance', 'errno']) labels.add(label);
    const told = labelsIn(read(RULES) + read(DASHBOARD));
    expect(told.length).toBeGreaterThan(25);
    expect(told.filter((label) => !labels.has(label))).toEqual([]);
  });

  needs('promtool').it('are rules that Prometheus takes', async () => {
    expect(await promtool('check', 'rules', RULES)).toMatch(/^0: .*\n.*SUCCESS: 12 rules found/);
  });

  needs('promtool').it('fire when they should, and not before', async () => {
    expect(await promtool('test', 'rules', CASES)).toMatch(/^0: .*\n +SUCCESS/);
  });

  it('each have a case, and a section of the manual', () => {
    const alerts = [...read(RULES).matchAll(/- alert: (\w+)/g)].map(([, name]) => name);
    expect(alerts).toHaveLength(12);
    const cases = [...read(CASES).matchAll(/^ +alertname: (\w+)$/gm)].map(([, name]) => name);
    expect(new Set(cases)).toEqual(new Set(alerts));
    const runbooks = [...read(RULES).matchAll(/runbook: ["']?(.+?)["']?$/gm)].map(([, title]) => title);
    expect(runbooks).toHaveLength(alerts.length);
    const sections = [...read(OPERATIONS).matchAll(/^## (.+)$/gm)].map(([, title]) => title);
    expect(runbooks.filter((title) => !sections.includes(title))).toEqual([]);
  });

  it('is a dashboard whose panels all have a title and a place of their own', () => {
    const ids = dashboard.panels.map((panel) => (panel as unknown as { id: number }).id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(dashboard.panels.filter(({ title }) => title === '')).toEqual([]);
    expect(expressions.length).toBeGreaterThan(25);
  });

  needs('promtool').it('asks for what Prometheus can read', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'dashboard-'));
    try {
      const path = join(folder, 'rules.json');
      const rules = expressions.map((expr, i) => ({ record: `panel_${i}`, expr: withoutVariables(expr) }));
      writeFileSync(path, JSON.stringify({ groups: [{ name: 'dashboard', rules }] }));
      expect(await promtool('check', 'rules', path)).toMatch(/^0: .*\n.*SUCCESS: \d+ rules found/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

/** As Grafana fills them in. */
function withoutVariables(expression: string): string {
  const filled = expression.replaceAll('$__rate_interval', '1m').replace(/\$\w+/g, '.*');
  expect(filled).not.toContain('$');
  return filled;
}
