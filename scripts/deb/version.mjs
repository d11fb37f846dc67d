/** Which version a package has, and the time that all of its files have. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { run, StepError } from '../lib/steps.mjs';
import { ROOT } from '../lib/workspace.mjs';

const git = (...args) => run('git', 'git', args, { cwd: ROOT });

/** Seconds since 1970 of the commit, or SOURCE_DATE_EPOCH. Error: StepError where there is neither. */
export async function sourceDate() {
  const given = process.env.SOURCE_DATE_EPOCH;
  if (given !== undefined) {
    if (/^\d+$/.test(given)) return Number(given);
    throw new StepError('deb', `SOURCE_DATE_EPOCH is "${given}", expected seconds since 1970`);
  }
  try {
    return Number(await git('log', '-1', '--format=%ct'));
  } catch {
    throw new StepError('deb', 'this is no git clone: set SOURCE_DATE_EPOCH to the time of the sources');
  }
}

/**
 * The version of package.json where HEAD has its tag, otherwise one that sorts after it, by the time of the commit:
 * `0.1.0+20261126.050423.3136db1`, and `.dirty` where files differ from the commit.
 */
export async function packageVersion(date) {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'apps', 'xen-blockd', 'package.json'), 'utf8'));
  const base = version.replace('-', '~');
  try {
    const tags = (await git('tag', '--points-at', 'HEAD')).split('\n');
    const dirty = (await git('status', '--porcelain')).trim() !== '';
    if (!dirty && tags.includes(`v${version}`)) return base;
    const commit = (await git('rev-parse', '--short=7', 'HEAD')).trim();
    const [day, time] = new Date(date * 1000)
      .toISOString()
      .replace(/[-:]|\..*/g, '')
      .split('T');
    return `${base}+${day}.${time}.${commit}${dirty ? '.dirty' : ''}`;
  } catch {
    return base;
  }
}

/** Error: StepError where dpkg would refuse it. */
export function checkVersion(version) {
  if (/^(\d+:)?\d[A-Za-z0-9.+~]*(-[A-Za-z0-9.+~]+)?$/.test(version)) return version;
  throw new StepError('deb', `--deb-version ${version}: a digit first, then letters, digits and . + ~ -`);
}
