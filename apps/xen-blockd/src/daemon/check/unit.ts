import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { findTool, runTool } from '../../tools.js';
import { type Finding, good, note } from './finding.js';

const UNIT = 'xen-blockd.service';
const NAME = 'service';
const PROPERTIES = [
  'LoadState',
  'UnitFileState',
  'ActiveState',
  'SubState',
  'NeedDaemonReload',
  'DropInPaths',
  'MainPID',
];

/** What systemd has of the unit. `root`: where /run is; `systemctl`: the program. */
export async function checkUnit(root = '/', systemctl = findTool('systemctl')): Promise<Finding[]> {
  if (!existsSync(join(root, 'run/systemd/system')) || systemctl === undefined) {
    return [good(NAME, 'systemd does not run here; whatever starts the daemon must start it again when it ends')];
  }
  const { code, stdout, stderr } = await runTool(systemctl, ['show', UNIT, `--property=${PROPERTIES.join(',')}`]);
  if (code !== 0)
    return [note(NAME, `systemctl show ${UNIT}: ${stderr.trim()}`, 'run this as root, in the daemon’s own mounts')];
  return unitFindings(stdout);
}

function unitFindings(text: string): Finding[] {
  const values = new Map(
    text.split('\n').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
  const value = (name: string) => values.get(name) ?? '';
  if (value('LoadState') !== 'loaded') {
    const detail = `${UNIT} is not installed: nothing starts the daemon at boot, or again when it ends`;
    return [note(NAME, detail, 'install the unit, as docs/operations.md says; systemctl daemon-reload')];
  }
  return [
    running(value('ActiveState'), value('SubState'), value('MainPID')),
    ...enabled(value),
    ...hardening(value('DropInPaths')),
  ];
}

function running(active: string, sub: string, pid: string): Finding {
  if (active === 'active') return good(NAME, `${UNIT} runs, pid ${pid}`);
  if (active === 'inactive') return note(NAME, `${UNIT} does not run`, `systemctl start ${UNIT}`);
  return note(NAME, `${UNIT} is ${active} (${sub})`, `journalctl -u ${UNIT} says why`);
}

function enabled(value: (name: string) => string): Finding[] {
  const state = value('UnitFileState');
  const findings: Finding[] = [];
  if (state !== 'enabled' && state !== 'enabled-runtime' && state !== 'static') {
    findings.push(
      note('service at boot', `${UNIT} is ${state}: it is not started at boot`, `systemctl enable ${UNIT}`),
    );
  }
  if (value('NeedDaemonReload') === 'yes') {
    const detail = `${UNIT} has changed on disk, and systemd has the former one`;
    findings.push(note('service file', detail, `systemctl daemon-reload && systemctl restart ${UNIT}`));
  }
  return findings;
}

function hardening(dropIns: string): Finding[] {
  const name = 'hardening';
  if (/(^|\/)hardened\.conf(\s|$)/.test(dropIns)) return [good(name, 'hardened.conf is in force')];
  return [good(name, 'that of the unit; hardened.conf closes more, where images are files of root in one folder')];
}
