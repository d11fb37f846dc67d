/** xenstore as the stock tools see it. Slow, but independent of what is tested. */
import { sh } from './shell.mjs';

export async function xsRead(path) {
  return (
    (await sh(`xenstore-read '${path}' 2>/dev/null || echo '<none>'`)).replace(/\n$/, '').replace(/^<none>$/, '') ||
    undefined
  );
}

export async function xsExists(path) {
  return (await sh(`xenstore-exists '${path}' && echo yes || echo no`)).trim() === 'yes';
}

/** Names of the children, none where there is no such node. */
export async function xsList(path) {
  return (await sh(`xenstore-list '${path}' 2>/dev/null || true`)).split('\n').filter(Boolean);
}
