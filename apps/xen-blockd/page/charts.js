/** Drawings in SVG. Everything is made by the document's functions, so that no text of a guest can become markup. */

const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 240;
const HEIGHT = 60;

export function svg(name, attributes = {}) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  return element;
}

/** An empty drawing of a series; give it to {@link draw}. */
export function seriesChart(className) {
  const chart = svg('svg', {
    class: className,
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    preserveAspectRatio: 'none',
    role: 'img',
  });
  chart.append(svg('path', { class: 'area' }), svg('path', { class: 'curve' }));
  return chart;
}

/** `points` are numbers or null, the last one is now; null is a gap. The lowest line is 0. */
export function draw(chart, points, label) {
  const [area, curve] = chart.children;
  const most = Math.max(0, ...points.filter((point) => point !== null)) || 1;
  const x = (i) => ((i / Math.max(1, points.length - 1)) * WIDTH).toFixed(1);
  const y = (value) => (HEIGHT - 2 - (value / most) * (HEIGHT - 4)).toFixed(1);
  let [line, filled] = ['', ''];
  for (const [from, to] of runs(points)) {
    // A point alone is a short line.
    const run = points.slice(from, to).map((value, i) => `${x(from + i)},${y(value)}`);
    line += `M${run.join('L')}${run.length === 1 ? 'h1' : ''}`;
    filled += `M${x(from)},${HEIGHT}L${run.join('L')}L${x(to - 1)},${HEIGHT}Z`;
  }
  set(area, 'd', filled);
  set(curve, 'd', line);
  set(chart, 'aria-label', label);
}

/** A bar of a part of its width, from 0 to 1. */
export function bar(share) {
  const drawing = svg('svg', {
    class: 'bar',
    viewBox: '0 0 100 10',
    preserveAspectRatio: 'none',
    'aria-hidden': 'true',
  });
  drawing.append(svg('rect', { width: share > 0 ? Math.max(0.6, share * 100).toFixed(2) : 0, height: 10, rx: 0.5 }));
  return drawing;
}

/** A line at a point of a series, from 0 to 1; nowhere if undefined. */
export function mark(chart, share) {
  chart.querySelector('line')?.remove();
  if (share === undefined) return;
  const at = (share * WIDTH).toFixed(1);
  chart.append(svg('line', { x1: at, x2: at, y1: 0, y2: HEIGHT }));
}

/** The stretches without a gap, as [first, behind the last]. */
function runs(points) {
  const found = [];
  let from = -1;
  for (let i = 0; i <= points.length; i++) {
    const known = i < points.length && points[i] !== null;
    if (known && from < 0) from = i;
    if (!known && from >= 0) {
      found.push([from, i]);
      from = -1;
    }
  }
  return found;
}

/** Writing what is there already would be drawn again. */
export function set(element, attribute, value) {
  if (element.getAttribute(attribute) !== value) element.setAttribute(attribute, value);
}
