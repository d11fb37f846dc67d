/** Asks the daemon every few seconds, and says so when it does not answer. */
import { duration } from './format.js';
import { diskView, listView } from './views.js';

const INTERVAL_MS = 5000;
/** After a failure, so that a daemon that is back is seen soon. */
const AGAIN_MS = 1000;
const ANSWER_MS = 10_000;

const content = document.getElementById('content');
const connection = document.getElementById('connection');
const summary = document.getElementById('summary');

let view = listView();
let timer;
let round = 0;
let heardAt;
let instance;
let restartedAt;
let trouble;

function route() {
  const [, name] = /^#\/disk\/([\w-]+)$/.exec(location.hash) ?? [];
  view = name === undefined ? listView() : diskView(name);
  document.title = name === undefined ? 'xen-blockd' : `${name} – xen-blockd`;
  content.replaceChildren(view.element);
  ask();
}

async function ask() {
  const mine = ++round;
  clearTimeout(timer);
  try {
    const response = await fetch(view.path, { signal: AbortSignal.timeout(ANSWER_MS), cache: 'no-store' });
    const answer = await response.json();
    if (mine !== round) return;
    heard(answer.instance ?? answer.daemon?.instance);
    if (response.ok || response.status === 404) view.show(response.ok ? answer : undefined);
    else trouble = `it answers ${response.status}`;
    if (answer.daemon) setText(summary, summaryOf(answer));
    if (answer.daemon?.starting) trouble = 'it is starting';
    if (answer.daemon && !answer.daemon.xenstoreConnected) trouble = 'it has lost xenstored, and serves on';
  } catch {
    if (mine !== round) return;
    trouble = 'gone';
  }
  showConnection();
  if (!document.hidden) timer = setTimeout(ask, trouble === 'gone' ? AGAIN_MS : INTERVAL_MS);
}

function heard(other) {
  heardAt = performance.now();
  trouble = undefined;
  if (other === undefined) return;
  if (instance !== undefined && instance !== other) restartedAt = performance.now();
  instance = other;
}

/** Ages come from a clock that never goes back. */
function showConnection() {
  const age = heardAt === undefined ? undefined : (performance.now() - heardAt) / 1000;
  const away = trouble !== undefined;
  connection.classList.toggle('away', away);
  content.classList.toggle('away-too', trouble === 'gone' && heardAt !== undefined);
  setText(connection, connectionText(age));
}

function connectionText(age) {
  if (trouble === 'gone') {
    if (age === undefined) return '✕ xen-blockd does not answer; asking again';
    // Coarse, so that a reader is not told each second.
    return `✕ xen-blockd does not answer; what is here is ${age < 60 ? 'less than a minute' : duration(age)} old; asking again`;
  }
  if (trouble !== undefined) return `! xen-blockd: ${trouble}`;
  const since = restartedAt === undefined ? undefined : (performance.now() - restartedAt) / 1000;
  return since !== undefined && since < 60 ? '● live; xen-blockd was started again' : '● live';
}

function summaryOf({ disks, daemon }) {
  const counts = new Map();
  for (const { state } of disks) counts.set(state, (counts.get(state) ?? 0) + 1);
  const states = [...counts].map(([state, count]) => `${count} ${state}`).join(', ');
  const all = `${disks.length} ${disks.length === 1 ? 'disk' : 'disks'}`;
  return `${all}${states && `: ${states}`} · version ${daemon.version}, up ${duration(daemon.uptimeSeconds)}`;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

addEventListener('hashchange', () => {
  if (!/^#(\/|$)/.test(location.hash)) return;
  route();
  content.focus({ preventScroll: true });
  scrollTo(0, 0);
});
document.addEventListener('visibilitychange', () => {
  if (document.hidden) clearTimeout(timer);
  else ask();
});
setInterval(showConnection, 5000);
route();
