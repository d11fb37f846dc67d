/**
 * Makes the pictures of docs/pictures: the page, and `xen-blockd top`, of an embedded host with guests that work.
 * Needs Debian's chromium and script, and what `npm run build` makes.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, openSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';
import { readArguments } from './lib/program.mjs';
import { ROOT } from './lib/workspace.mjs';

const USAGE = `usage: node scripts/screenshots.mjs [options]

Makes the pictures of docs/pictures anew.

  --minutes N  how long the curves are, which is how long it takes: 2
  --help       this text
`;

const PICTURES = join(ROOT, 'docs', 'pictures');
const PROGRAM = join(ROOT, 'apps', 'xen-blockd', 'dist', 'main.js');
const PORT = 9196;
const MOST_BYTES = 150_000;
const TERMINAL = { columns: 110, lines: 18 };
/** Name, operations in flight; the last one loses its image. */
const GUESTS = [
  ['web1', 4],
  ['web2', 1],
  ['db1', 16],
  ['mail', 2],
  ['build', 1],
];

const { values } = readArguments(USAGE, { minutes: { type: 'string', default: '2' } });
const folder = mkdtempSync('/dev/shm/xen-');
const children = [];

function start(name, args, output) {
  const log = output ?? openSync(join(folder, `${name}.log`), 'w');
  const child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ['ignore', log, log], cwd: folder });
  children.push(child);
  return child;
}

const ended = (child) =>
  child.exitCode !== null || child.signalCode !== null || new Promise((resolve) => child.once('exit', resolve));

/** Waits until the page's JSON is so; by default, that disks are served. */
async function untilAnswered(isSo = ({ daemon }) => !daemon.starting) {
  for (let i = 0; i < 300; i++) {
    const answer = await fetch(`http://localhost:${PORT}/api/disks`).catch(() => undefined);
    if (answer?.ok && isSo(await answer.json())) return;
    await sleep(200);
  }
  throw new Error(`the daemon on port ${PORT} does not get there`);
}

/** What a terminal shows of `xen-blockd top`: the rows of its last full screen, with their colours. */
async function topScreen() {
  const command = `stty cols ${TERMINAL.columns} rows ${TERMINAL.lines}; exec ${process.execPath} ${PROGRAM} top --socket ${folder}/xen-blockd.sock`;
  const child = spawn('script', ['-qfec', command, '/dev/null'], { env: { ...process.env, TERM: 'xterm-256color' } });
  children.push(child);
  let text = '';
  child.stdout.on('data', (chunk) => (text += chunk));
  await sleep(14_000);
  const copy = text;
  child.stdin.write('q');
  await ended(child);
  return rowsOf(copy);
}

/** A terminal of few words: positions, clearing and colours. */
function rowsOf(text) {
  const rows = Array.from({ length: TERMINAL.lines }, () => []);
  let [row, column, style] = [0, 0, ''];
  const ESC = '\u001b';
  for (const part of text.matchAll(new RegExp(`${ESC}\\[([?\\d;]*)([A-Za-z])|${ESC}.|\\r|\\n|[^${ESC}\\r\\n]`, 'gu'))) {
    const [all, numbers, letter] = part;
    const [first = 0, second = 0] = (numbers ?? '').split(';').map(Number);
    if (all === '\r') column = 0;
    else if (all === '\n') row = Math.min(row + 1, TERMINAL.lines - 1);
    else if (letter === 'H')
      [row, column] = [Math.min(Math.max(first, 1), TERMINAL.lines) - 1, Math.max(second, 1) - 1];
    else if (letter === 'J')
      for (let at = first === 0 ? row : 0; at < TERMINAL.lines; at++)
        rows[at] = at === row && first === 0 ? rows[at].slice(0, column) : [];
    else if (letter === 'K') rows[row].length = Math.min(rows[row].length, column);
    else if (letter === 'm') style = numbers === '' || numbers === '0' ? '' : `s${numbers.replaceAll(';', '-')}`;
    else if (!all.startsWith(ESC)) rows[row][column++] = [all, style];
  }
  return rows;
}

function terminalPage(rows) {
  const escaped = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  const lines = rows.map((cells) =>
    Array.from(cells, (cell) => (cell ? `<span class="${cell[1]}">${escaped(cell[0])}</span>` : ' ')).join(''),
  );
  const style = `body{margin:0;background:#0d1117}pre{margin:0;padding:16px;display:inline-block;color:#e6edf3;
    font:14px/1.35 "DejaVu Sans Mono",monospace}.s1{font-weight:700}.s2{color:#9198a1}.s7{background:#e6edf3;color:#0d1117}
    .s31{color:#ff7b72}.s32{color:#3fb950}.s33{color:#e3b341}.s1-32{color:#3fb950;font-weight:700}`;
  return `<!doctype html><meta charset="utf-8"><style>${style}</style><pre>${lines.join('\n')}</pre>`;
}

async function take() {
  start('host', ['host', '--dir', folder]);
  await sleep(4000);
  const run = ['run', '--emulator', folder, '--page', `localhost:${PORT}`];
  let daemon = start('run', run);
  await untilAnswered();
  for (const [name, depth] of GUESTS) {
    writeFileSync(join(folder, `${name}.img`), '');
    truncateSync(join(folder, `${name}.img`), 64 << 20);
    const load = ['--writable', '--load', '--seconds', '3600', '--depth', `${depth}`];
    start(name, ['guest', `${name}.img`, '--dir', folder, '--name', name, ...load]);
  }
  await untilAnswered(({ disks }) => disks.filter(({ state }) => state === 'connected').length === GUESTS.length);
  // A restart, and an image that is away: a disk that is held.
  daemon.kill('SIGTERM');
  await ended(daemon);
  renameSync(join(folder, 'build.img'), join(folder, 'build.away'));
  daemon = start('again', run);
  await untilAnswered();
  await sleep(Number(values.minutes) * 60_000);

  mkdirSync(PICTURES, { recursive: true });
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update'],
  });
  try {
    const page = await browser.newPage({ viewport: { width: 1000, height: 720 }, colorScheme: 'light' });
    const shot = (name, options = {}) => page.screenshot({ path: join(PICTURES, `${name}.png`), ...options });
    await page.goto(`http://localhost:${PORT}/`);
    await page.waitForSelector('.disks tbody tr');
    await shot('page-light');
    await page.emulateMedia({ colorScheme: 'dark' });
    await shot('page-dark');
    await page.setViewportSize({ width: 360, height: 740 });
    await shot('page-phone');
    await page.setViewportSize({ width: 1000, height: 900 });
    await page.emulateMedia({ colorScheme: 'light' });
    await page.locator('.disks a:has-text("db1")').click();
    await page.waitForSelector('.keys');
    await shot('disk');
    // The page's own policy lets nothing else be written into it.
    const terminal = await browser.newPage({ viewport: { width: 1200, height: 500 } });
    await terminal.setContent(terminalPage(await topScreen()));
    await terminal.locator('pre').screenshot({ path: join(PICTURES, 'top.png') });
  } finally {
    await browser.close();
  }
  for (const name of ['page-light', 'page-dark', 'page-phone', 'disk', 'top']) {
    const { size } = statSync(join(PICTURES, `${name}.png`));
    if (size > MOST_BYTES) throw new Error(`${name}.png has ${size} bytes, more than ${MOST_BYTES}`);
    process.stdout.write(`docs/pictures/${name}.png  ${size} bytes\n`);
  }
}

// Its end ends the others too.
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    for (const child of children) child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
    process.exit(1);
  });
}

try {
  await take();
} finally {
  for (const child of children.toReversed()) {
    child.kill('SIGTERM');
    await Promise.race([ended(child), sleep(5000)]);
    child.kill('SIGKILL');
  }
  rmSync(folder, { recursive: true, force: true });
}
