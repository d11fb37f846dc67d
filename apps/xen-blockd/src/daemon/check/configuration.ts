import { existsSync } from 'node:fs';
import { type Config, checkConfig, DEFAULT_CONFIG_PATH, formatProblem, loadConfig } from '../config.js';
import { type Finding, good, missing } from './finding.js';

/** Of a finding: the file is wrong. */
export const CONFIGURATION = 'configuration';

/** The file's problems, all of them, and what it says; the defaults where it is wrong. */
export function checkConfiguration(path = DEFAULT_CONFIG_PATH): {
  readonly findings: Finding[];
  readonly config: Config;
} {
  const defaults = () => loadConfig('/dev/null', {});
  if (!existsSync(path)) {
    return { findings: [good(CONFIGURATION, `${path} is not there: the defaults count`)], config: defaults() };
  }
  const problems = checkConfig(path);
  if (problems.length === 0) return { findings: [good(CONFIGURATION, path)], config: loadConfig(path, {}) };
  const findings = problems.map((problem) => {
    const { allowed, suggestion } = problem;
    const mend =
      suggestion === undefined
        ? allowed === undefined
          ? undefined
          : `allowed: ${allowed}`
        : `did you mean ${suggestion}?`;
    return missing(
      CONFIGURATION,
      formatProblem(problem).split('\n')[0],
      mend ?? `correct it; xen-blockd check --config ${path} shows where`,
    );
  });
  return { findings, config: defaults() };
}
