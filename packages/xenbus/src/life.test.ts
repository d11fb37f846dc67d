import { describe, expect, it } from 'vitest';
import { holdings, nextPhase, type Phase, type Transition } from './life.js';

const phases: readonly Phase[] = ['idle', 'prepared', 'connected', 'held', 'failed', 'removed', 'gone'];

describe('the life of a device', () => {
  /** The phase after a transition, for each phase in the order above. */
  it.each<[Transition, Phase[]]>([
    ['opened', ['prepared', 'prepared', 'connected', 'held', 'failed', 'removed', 'gone']],
    ['openingFailed', ['failed', 'failed', 'connected', 'held', 'failed', 'removed', 'gone']],
    ['served', ['idle', 'connected', 'connected', 'held', 'failed', 'removed', 'gone']],
    ['held', ['held', 'held', 'held', 'held', 'failed', 'removed', 'gone']],
    ['retried', ['idle', 'prepared', 'connected', 'idle', 'failed', 'removed', 'gone']],
    ['disconnected', ['idle', 'prepared', 'prepared', 'held', 'failed', 'removed', 'gone']],
    ['released', ['idle', 'idle', 'idle', 'idle', 'idle', 'idle', 'gone']],
    ['removed', ['removed', 'prepared', 'connected', 'held', 'failed', 'removed', 'gone']],
    ['forgotten', ['gone', 'gone', 'gone', 'gone', 'gone', 'gone', 'gone']],
  ])('%s', (transition, expected) => {
    expect(phases.map((phase) => nextPhase(phase, transition))).toEqual(expected);
  });

  it.each<[Phase, string[]]>([
    ['idle', []],
    ['prepared', ['prepared']],
    ['connected', ['prepared', 'connected']],
    ['held', ['held']],
    ['failed', ['failed']],
    ['removed', ['removed']],
    ['gone', []],
  ])('%s is seen by the reducer as %j', (phase, expected) => {
    const held = Object.entries(holdings(phase)).filter(([, holds]) => holds);
    expect(held.map(([name]) => name)).toEqual(expected);
  });
});
