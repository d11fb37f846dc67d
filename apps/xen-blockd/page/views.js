/** The list of the disks, and one disk. Each view has an element, the path it is made of, and takes what comes from there. */
import { bar, draw, mark, seriesChart, set } from './charts.js';
import { bandwidth, bytes, diskName, duration, latency, rate } from './format.js';

const FIGURES = [
  { key: 'iops', title: 'IOPS', format: rate },
  { key: 'bandwidth', title: 'Bandwidth', format: bandwidth },
  { key: 'latency', title: 'Latency', format: latency },
];
/** A mark for each state, so that its colour says nothing alone. */
const MARKS = { connected: '●', waiting: '○', paused: '‖', refused: '✕', held: '◆', stopped: '■' };
const STATE_ORDER = ['stopped', 'held', 'refused', 'paused', 'connected', 'waiting'];
const MOST_ROWS = 1000;

const ORDERS = {
  name: (a, b) => diskName(a).localeCompare(diskName(b), 'en', { numeric: true }),
  state: (a, b) => STATE_ORDER.indexOf(a.state) - STATE_ORDER.indexOf(b.state),
  iops: (a, b) => (b.now.iops ?? 0) - (a.now.iops ?? 0),
  bandwidth: (a, b) => (b.now.bandwidth ?? 0) - (a.now.bandwidth ?? 0),
  latency: (a, b) => (b.now.latency ?? 0) - (a.now.latency ?? 0),
};

/** What was chosen stays when one comes back from a disk. */
const chosen = { filter: '', order: 'name' };

export function listView() {
  const filter = element('input', { type: 'search', id: 'filter', autocomplete: 'off', spellcheck: 'false' });
  const order = element('select', { id: 'order' });
  for (const key of Object.keys(ORDERS)) order.append(element('option', { value: key }, key));
  filter.value = chosen.filter;
  order.value = chosen.order;
  const tools = element('div', { class: 'tools' });
  tools.append(labelled('Filter', filter), labelled('Order by', order));
  const count = element('p', { class: 'quiet', id: 'count', role: 'status' });
  const troubles = element('section', { 'aria-label': 'Disks that need somebody' });
  const body = element('tbody', { role: 'rowgroup' });
  const errors = errorList();
  const view = element('div');
  view.append(troubles, tools, count, diskTable(body), element('h2', {}, 'Recent errors'), errors.element);
  const rows = new Map();
  let last;

  function show(answer) {
    last = answer;
    const words = chosen.filter.toLowerCase();
    const matching = answer.disks.filter((disk) => textOf(disk).includes(words));
    matching.sort((a, b) => ORDERS[chosen.order](a, b) || ORDERS.name(a, b));
    const shown = matching.slice(0, MOST_ROWS);
    setText(count, countText(answer, matching, shown));
    const wanted = shown.map((disk) => {
      const row = rows.get(disk.device) ?? diskRow();
      rows.set(disk.device, row);
      row.show(disk);
      return row.element;
    });
    for (const [device, row] of rows) if (!wanted.includes(row.element)) rows.delete(device);
    place(body, wanted);
    showTroubles(troubles, answer.disks);
    errors.show(answer.errors);
  }

  filter.addEventListener('input', () => {
    chosen.filter = filter.value;
    if (last) show(last);
  });
  order.addEventListener('change', () => {
    chosen.order = order.value;
    if (last) show(last);
  });
  return { element: view, path: '/api/disks', show };
}

function countText({ disks }, matching, shown) {
  if (disks.length === 0) return 'There are no disks yet: they appear here when the toolstack attaches them.';
  if (matching.length === 0) return 'No disk has that text.';
  const span = shown[0]?.history;
  const last = span ? `; curves show the last ${duration(span.stepSeconds * Math.max(1, span.iops.length))}` : '';
  if (shown.length < matching.length)
    return `The first ${shown.length} of ${matching.length} disks; filter for the others${last}.`;
  return `${matching.length} of ${disks.length} disks${last}.`;
}

function textOf({ guest, vdev, device, image, state }) {
  return `${guest}:${vdev} ${device} ${image} ${state}`.toLowerCase();
}

function diskTable(body) {
  // Rows are cards on a phone; the roles say what they are there too.
  const table = element('table', { class: 'disks', role: 'table' });
  table.append(element('caption', { class: 'unseen' }, 'Disks, what they do now and did in the last hour'));
  const head = element('thead', { role: 'rowgroup' });
  const titles = element('tr', { role: 'row' });
  for (const title of ['Disk', 'State', ...FIGURES.map(({ title }) => title)])
    titles.append(element('th', { scope: 'col', role: 'columnheader' }, title));
  head.append(titles);
  table.append(head, body);
  return table;
}

function diskRow() {
  const row = element('tr', { role: 'row' });
  const name = element('th', { scope: 'row', role: 'rowheader', class: 'name' });
  const link = element('a');
  const image = element('span', { class: 'small' });
  name.append(link, image);
  const doing = element('td', { role: 'cell', class: 'doing' });
  const state = element('span', { class: 'state' });
  const since = element('span', { class: 'small' });
  doing.append(state, since);
  const cells = FIGURES.map(({ key, title }) => {
    const cell = element('td', { role: 'cell', class: `figure ${key}`, 'data-label': title });
    const value = element('span', { class: 'value' });
    const chart = seriesChart('spark');
    cell.append(value, chart);
    return { cell, value, chart };
  });
  row.append(name, doing, ...cells.map(({ cell }) => cell));

  function show(disk) {
    setText(link, diskName(disk));
    set(link, 'href', `#/disk/${disk.device}`);
    setText(image, [disk.image ?? 'no medium', disk.size && bytes(disk.size)].filter(Boolean).join(', '));
    showState(state, disk.state);
    const waits =
      disk.inFlight > 0 && disk.oldestRequestMs > 1000
        ? `; oldest request ${duration(disk.oldestRequestMs / 1000)}`
        : '';
    setText(since, `for ${duration(disk.stateSeconds)}${waits}`);
    for (const [i, { key, title, format }] of FIGURES.entries()) {
      const { value, chart } = cells[i];
      setText(value, format(disk.now[key]));
      const points = disk.history?.[key] ?? [];
      draw(chart, points, `${title}: now ${format(disk.now[key])}, at most ${format(most(points))}`);
    }
  }
  return { element: row, show };
}

function showState(element, state) {
  element.className = `state ${state}`;
  setText(element, `${MARKS[state] ?? '?'} ${state}`);
}

/** Refused, held, stopped and paused disks, and drives whose medium cannot be loaded. */
function showTroubles(section, disks) {
  const wanted = disks.filter(({ why }) => why !== null);
  const boxes = wanted.slice(0, 20).map((disk) => {
    const box = troubleBox(disk);
    const [title] = box.children;
    const link = element('a', { href: `#/disk/${disk.device}` }, diskName(disk));
    title.prepend(link, ' ');
    return box;
  });
  if (wanted.length > boxes.length) boxes.push(element('p', {}, `and ${wanted.length - boxes.length} more`));
  const said = boxes.map(({ textContent }) => textContent).join('');
  section.hidden = said === '';
  if (section.textContent === said) return;
  // A link in it may have the focus.
  const focused = section.contains(document.activeElement) ? document.activeElement.getAttribute('href') : null;
  section.replaceChildren(...boxes);
  if (focused !== null) section.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
}

function troubleBox({ state, since, stateSeconds, why, remedy }) {
  const box = element('div', { class: `trouble ${state}` });
  const title = element('p');
  const word = element('span');
  showState(word, state);
  title.append(word, ` for ${duration(stateSeconds)}${since === null ? '' : `, since ${since}`}`);
  box.append(title, element('p', {}, why));
  if (remedy !== null) {
    const line = element('p', {}, state === 'paused' ? 'To go on: ' : 'Mend that, then: ');
    line.append(element('code', { class: 'remedy' }, remedy));
    box.append(line);
  }
  return box;
}

function errorList() {
  const list = element('ol', { class: 'errors' });
  let said;
  function show(errors) {
    const text = JSON.stringify(errors.map(({ secondsAgo, ...rest }) => [duration(secondsAgo), rest]));
    if (text === said) return;
    said = text;
    const items = errors.slice(0, 50).map(({ about, guest, level, message, count, secondsAgo }) => {
      const item = element('li');
      const who = [guest, about].filter((part) => part !== null).join(' · ');
      item.append(element('span', { class: `level ${level}` }, level), ` ${message} `);
      const times = count > 1 ? `${count} times, last ` : '';
      item.append(element('span', { class: 'small' }, `${who && `${who}, `}${times}${duration(secondsAgo)} ago`));
      return item;
    });
    list.replaceChildren(...(items.length > 0 ? items : [element('li', { class: 'quiet' }, 'none in the last hour')]));
  }
  return { element: list, show };
}

export function diskView(name) {
  const view = element('div');
  const back = element('p');
  back.append(element('a', { href: '#/' }, '← all disks'));
  const title = element('h2', {}, name);
  const trouble = element('div');
  const facts = element('dl');
  const charts = element('div', { class: 'charts' });
  const drawn = FIGURES.map((figure) => figureChart(figure));
  charts.append(...drawn.map(({ element: chart }) => chart));
  const histogram = element('div');
  const errors = errorList();
  const keys = element('div');
  const rest = element('div');
  rest.append(facts, element('h2', {}, 'The last hour'), charts);
  rest.append(element('h2', {}, 'Latency'), histogram, element('h2', {}, 'Recent errors'), errors.element);
  rest.append(element('h2', {}, 'Keys in xenstore'), keys);
  view.append(back, title, trouble, rest);

  function show(answer) {
    rest.hidden = answer === undefined;
    if (answer === undefined) {
      trouble.replaceChildren(
        element('p', { role: 'status' }, 'This disk is not there now. It shows here when it comes back.'),
      );
      return;
    }
    const { disk } = answer;
    setText(title, diskName(disk));
    const box = disk.why === null ? undefined : troubleBox(disk);
    if (trouble.textContent !== (box?.textContent ?? '')) trouble.replaceChildren(...(box ? [box] : []));
    replaceOnce(facts, factsOf(disk));
    for (const chart of drawn) chart.show(disk);
    replaceOnce(histogram, [histogramTable(disk.operations)]);
    errors.show(disk.errors);
    replaceOnce(keys, keyTables(disk.keys));
  }
  return { element: view, path: `/api/disks/${name}`, show };
}

function factsOf(disk) {
  const state = element('span');
  showState(state, disk.state);
  state.append(` for ${duration(disk.stateSeconds)}`);
  const entries = [
    ['State', state],
    ['Device', disk.device],
    ['Guest', `${disk.guest ?? 'unknown'}, domain ${disk.domid}`],
    ['Image', disk.image ?? 'no medium'],
    ['Format', [disk.format, disk.engine].filter(Boolean).join(', ') || '–'],
    [
      'Size',
      `${bytes(disk.size)}${disk.readOnly ? ', read-only' : ''}${disk.sectorSize ? `, sectors of ${disk.sectorSize}` : ''}`,
    ],
    ['Frontend', disk.abi === null ? 'none' : `${disk.abi}, ${disk.queues} × ${disk.ringPages} ring pages`],
    ['Limits', `${disk.limits}; its guest: ${disk.guestLimits}`],
    [
      'In flight',
      `${disk.inFlight}${disk.oldestRequestMs > 1000 ? `, oldest ${duration(disk.oldestRequestMs / 1000)}` : ''}`,
    ],
    ['Failed', String(disk.failed)],
  ];
  return entries.map(([name, value]) => {
    const entry = element('div');
    const description = element('dd');
    description.append(value);
    entry.append(element('dt', {}, name), description);
    return entry;
  });
}

/** The last hour of one figure; a pointer or the arrow keys choose a moment. */
function figureChart({ key, title, format }) {
  const figure = element('figure', { class: key });
  const chart = seriesChart('chart');
  chart.setAttribute('tabindex', '0');
  const caption = element('figcaption');
  const axis = element('div', { class: 'axis', 'aria-hidden': 'true' });
  const [left, right] = [element('span'), element('span', {}, 'now')];
  axis.append(left, right);
  const told = element('output', { class: 'quiet' });
  figure.append(element('h3', {}, title), chart, axis, caption, told);
  let [points, step, at] = [[], 5, undefined];

  function tell() {
    const last = points.length - 1;
    mark(chart, at === undefined ? undefined : at / Math.max(1, last));
    setText(told, at === undefined ? '' : `${duration((last - at) * step)} ago: ${format(points[at])}`);
  }
  function choose(index) {
    at = index === undefined || points.length === 0 ? undefined : Math.min(points.length - 1, Math.max(0, index));
    tell();
  }
  chart.addEventListener('pointermove', ({ clientX }) => {
    const { left: from, width } = chart.getBoundingClientRect();
    choose(Math.round(((clientX - from) / width) * (points.length - 1)));
  });
  chart.addEventListener('pointerleave', () => choose(undefined));
  chart.addEventListener('blur', () => choose(undefined));
  chart.addEventListener('keydown', (event) => {
    const moves = { ArrowLeft: -1, ArrowRight: 1, PageUp: -12, PageDown: 12, Home: -points.length, End: points.length };
    if (event.key === 'Escape') choose(undefined);
    const by = moves[event.key];
    if (by === undefined) return;
    event.preventDefault();
    choose((at ?? points.length - 1) + by);
  });
  function show(disk) {
    points = disk.history?.[key] ?? [];
    step = disk.history?.stepSeconds ?? 5;
    const text = `now ${format(disk.now[key])}, mean ${format(mean(points))}, at most ${format(most(points))}`;
    draw(chart, points, `${title}: ${text}. Arrow keys choose a moment.`);
    setText(caption, text);
    setText(left, points.length > 0 ? `${duration(points.length * step)} ago` : '');
    tell();
  }
  return { element: figure, show };
}

/** A row for each bucket from the first to the last that has requests. */
function histogramTable(operations) {
  const used = Object.entries(operations).filter(([, { operations }]) => operations > 0);
  if (used.length === 0) return element('p', { class: 'quiet' }, 'No request was answered yet.');
  const table = element('table', { class: 'histogram' });
  const summary = used.map(
    ([name, { p50, p99 }]) => `${name}: half within ${latency(p50)}, 99 of 100 within ${latency(p99)}`,
  );
  table.append(element('caption', {}, `From a request's taking to its answer. ${summary.join('; ')}.`));
  const head = element('tr');
  for (const title of ['within', ...used.map(([name]) => name)]) head.append(element('th', { scope: 'col' }, title));
  const body = element('tbody');
  const counts = used.map(([, { histogram }]) => histogram);
  const most = Math.max(...counts.flat(), 1);
  const filled = counts[0].map((_, b) => counts.some((histogram) => histogram[b] > 0));
  for (let b = filled.indexOf(true); b >= 0 && b <= filled.lastIndexOf(true); b++) {
    const row = element('tr');
    row.append(element('th', { scope: 'row' }, bucketName(b, counts[0].length)));
    for (const [i, [name]] of used.entries()) {
      const cell = element('td', { class: name }, counts[i][b].toLocaleString('en'));
      cell.append(bar(counts[i][b] / most));
      row.append(cell);
    }
    body.append(row);
  }
  const group = element('thead');
  group.append(head);
  table.append(group, body);
  return table;
}

function bucketName(bucket, buckets) {
  return bucket === buckets - 1 ? `more than ${latency(2 ** (bucket - 1))}` : latency(2 ** bucket);
}

function keyTables({ halves, problem }) {
  if (problem !== null) return [element('p', { class: 'quiet' }, `They cannot be read now: ${problem}`)];
  return halves.flatMap(({ path, keys, cut }) => {
    const table = element('table', { class: 'keys' });
    table.append(element('caption', {}, `${path}${cut ? ' (the first of more)' : ''}`));
    const body = element('tbody');
    for (const [name, value] of keys) {
      const row = element('tr');
      row.append(element('td', {}, name), element('td', {}, value));
      body.append(row);
    }
    table.append(body);
    return [table];
  });
}

function most(points) {
  const known = points.filter((point) => point !== null);
  return known.length === 0 ? null : Math.max(...known);
}

function mean(points) {
  const known = points.filter((point) => point !== null);
  return known.length === 0 ? null : known.reduce((sum, point) => sum + point, 0) / known.length;
}

/** What is there already stays: somebody may be marking text in it, to copy it. */
function replaceOnce(parent, children) {
  const same =
    parent.children.length === children.length && children.every((child, i) => child.isEqualNode(parent.children[i]));
  if (!same) parent.replaceChildren(...children);
}

/** Puts these elements into `parent`, and moves none that is where it belongs. */
function place(parent, wanted) {
  for (const [i, child] of wanted.entries()) {
    if (parent.children[i] !== child) parent.insertBefore(child, parent.children[i] ?? null);
  }
  while (parent.children.length > wanted.length) parent.lastElementChild.remove();
}

function labelled(text, control) {
  const label = element('label', { for: control.id }, text);
  label.append(control);
  return label;
}

function element(name, attributes = {}, text = undefined) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  if (text !== undefined) made.textContent = text;
  return made;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
