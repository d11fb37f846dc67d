import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type DeviceAction, type DeviceView, nextAction } from './reducer.js';
import { parseState, XenbusState as S, stateName } from './states.js';

const waiting: DeviceView = {
  backend: S.initWait,
  frontend: S.initialising,
  online: true,
  gated: false,
  prepared: true,
  connected: false,
  held: false,
  failed: false,
  removed: false,
};
const serving: DeviceView = { ...waiting, backend: S.connected, frontend: S.connected, connected: true };

const held: DeviceView = { ...serving, prepared: false, connected: false, held: true };

const wait: DeviceAction = { do: 'wait' };
const disconnect = (state: S): DeviceAction => ({ do: 'disconnect', state });
const setState = (state: S): DeviceAction => ({ do: 'setState', state });

describe('what a backend does next', () => {
  const fresh: DeviceView = { ...waiting, backend: S.initialising, prepared: false };
  const cases: [string, DeviceView, DeviceAction][] = [
    // The toolstack creates the device.
    ['created', fresh, { do: 'prepare', state: S.initWait }],
    [
      'created by a toolstack that wrote no state',
      { ...fresh, backend: S.unknown },
      { do: 'prepare', state: S.initWait },
    ],
    [
      'created anew after one that could not be opened',
      { ...fresh, failed: true },
      { do: 'prepare', state: S.initWait },
    ],
    ['deleted', { ...serving, backend: undefined }, { do: 'forget' }],
    ['deleted before it was looked at', { ...fresh, backend: undefined }, { do: 'forget' }],
    // The handshake.
    ['frontend Initialising', waiting, wait],
    ['frontend InitWait', { ...waiting, frontend: S.initWait }, wait],
    ['frontend Initialised', { ...waiting, frontend: S.initialised }, { do: 'connect', adopt: false }],
    [
      'frontend Connected, its Initialised was missed',
      { ...waiting, frontend: S.connected },
      { do: 'connect', adopt: false },
    ],
    ['the hotplug script may be running', { ...waiting, frontend: S.initialised, gated: true }, wait],
    ['frontend Initialised while serving', { ...serving, frontend: S.initialised }, wait],
    ['frontend Connected while serving', serving, wait],
    ['frontend Reconfiguring', { ...serving, frontend: S.reconfiguring }, wait],
    ['frontend Reconfigured', { ...serving, frontend: S.reconfigured }, wait],
    // The frontend ends it.
    ['frontend Closing', { ...serving, frontend: S.closing }, setState(S.closing)],
    ['both Closing', { ...serving, backend: S.closing, frontend: S.closing }, wait],
    ['frontend Closed', { ...serving, backend: S.closing, frontend: S.closed }, disconnect(S.closed)],
    ['frontend Closed without Closing', { ...serving, frontend: S.closed }, disconnect(S.closed)],
    ['frontend directory gone', { ...serving, frontend: S.unknown }, disconnect(S.closed)],
    ['frontend gone before it connected', { ...waiting, frontend: S.unknown }, disconnect(S.closed)],
    // It comes back: firmware to kernel, kexec, a reloaded driver.
    ['both Closed', { ...waiting, backend: S.closed, frontend: S.closed }, wait],
    ['frontend Initialising again', { ...waiting, backend: S.closed }, setState(S.initWait)],
    [
      'frontend Initialised at once',
      { ...waiting, backend: S.closed, frontend: S.initialised },
      { do: 'connect', adopt: false },
    ],
    ['frontend Closing, backend Closed', { ...waiting, backend: S.closed, frontend: S.closing }, setState(S.closing)],
    ['a crash kernel that closed nothing', { ...serving, frontend: S.initialising }, disconnect(S.initWait)],
    ['a crash kernel before Connected was written', { ...waiting, connected: true }, disconnect(S.initWait)],
    // The toolstack ends it: online=0 and Closing in one transaction.
    ['unplug while serving', { ...serving, backend: S.closing, online: false }, wait],
    [
      'unplug, frontend Closed',
      { ...serving, backend: S.closing, online: false, frontend: S.closed },
      disconnect(S.closed),
    ],
    ['unplug, frontend never came', { ...waiting, backend: S.closing, online: false }, disconnect(S.closed)],
    [
      'unplug, no frontend',
      { ...waiting, backend: S.closing, online: false, frontend: S.unknown },
      disconnect(S.closed),
    ],
    ['unplug of a device that was not opened', { ...fresh, backend: S.closing, online: false }, disconnect(S.closed)],
    [
      'unplug of a device that failed',
      { ...fresh, failed: true, backend: S.closing, online: false },
      disconnect(S.closed),
    ],
    [
      'Closing by the toolstack alone, no frontend',
      { ...waiting, backend: S.closing, frontend: S.unknown },
      disconnect(S.closed),
    ],
    ['offline and Closed', { ...waiting, backend: S.closed, online: false, frontend: S.closed }, { do: 'remove' }],
    ['offline, Closed and released', { ...waiting, backend: S.closed, online: false, removed: true }, wait],
    ['offline while Initialising', { ...fresh, online: false }, disconnect(S.closed)],
    // Another process served it before.
    ['found Connected', { ...serving, connected: false, prepared: false }, { do: 'prepare', state: undefined }],
    ['found Connected, opened', { ...serving, connected: false }, { do: 'connect', adopt: true }],
    [
      'found Connected, frontend Initialised',
      { ...serving, connected: false, frontend: S.initialised },
      { do: 'connect', adopt: false },
    ],
    ['found InitWait', { ...waiting, prepared: false }, { do: 'prepare', state: undefined }],
    // It cannot be served now.
    ['held', held, wait],
    ['held, frontend Initialised', { ...held, frontend: S.initialised }, wait],
    ['held, frontend Reconfiguring', { ...held, frontend: S.reconfiguring }, wait],
    ['held, frontend Closing', { ...held, frontend: S.closing }, setState(S.closing)],
    ['held, frontend Closed', { ...held, frontend: S.closed }, disconnect(S.closed)],
    ['held, frontend gone', { ...held, frontend: S.unknown }, disconnect(S.closed)],
    ['held, a kernel that begins anew', { ...held, frontend: S.initialising }, { do: 'prepare', state: S.initWait }],
    ['held, unplug', { ...held, backend: S.closing, online: false }, disconnect(S.closed)],
    ['held, offline alone', { ...held, online: false }, disconnect(S.closed)],
    ['held, Closing by the toolstack alone', { ...held, backend: S.closing }, wait],
    ['held, Closed by the toolstack alone', { ...held, backend: S.closed }, disconnect(S.closed)],
    ['held, deleted', { ...held, backend: undefined }, { do: 'forget' }],
    ['held, made anew', { ...held, backend: S.initialising }, { do: 'prepare', state: S.initWait }],
    ['held, InitWait by the toolstack', { ...held, backend: S.initWait }, { do: 'prepare', state: undefined }],
    [
      'found Closed, frontend Initialising',
      { ...waiting, prepared: false, backend: S.closed },
      { do: 'prepare', state: S.initWait },
    ],
  ];
  it.each(cases)('%s', (_name, view, action) => {
    expect(nextAction(view)).toEqual(action);
  });
});

/** What carrying out an action does to a device whose frontend and toolstack stand still. */
function apply(view: DeviceView, action: DeviceAction): DeviceView {
  switch (action.do) {
    case 'prepare':
      return { ...view, prepared: true, held: false, backend: action.state ?? view.backend };
    case 'connect':
      return { ...view, connected: true, backend: S.connected };
    case 'disconnect':
      return { ...view, connected: false, held: false, backend: action.state };
    case 'setState':
      return { ...view, backend: action.state };
    case 'remove':
      return { ...view, connected: false, prepared: false, held: false, removed: true };
    default:
      return view;
  }
}

const anyState = fc.constantFrom(...Object.values(S));
const anyView: fc.Arbitrary<DeviceView> = fc.record({
  backend: fc.option(anyState, { nil: undefined }),
  frontend: anyState,
  online: fc.boolean(),
  gated: fc.boolean(),
  prepared: fc.boolean(),
  connected: fc.boolean(),
  held: fc.boolean(),
  failed: fc.boolean(),
  removed: fc.boolean(),
});

describe('whatever the store says', () => {
  it('comes to rest', () => {
    fc.assert(
      fc.property(anyView, (start) => {
        let view = start;
        for (let step = 0; step < 8; step++) {
          const action = nextAction(view);
          if (action.do === 'wait' || action.do === 'forget') return true;
          view = apply(view, action);
        }
        return false;
      }),
      { numRuns: 5000 },
    );
  });

  it('never serves a device that is offline without being connected', () => {
    fc.assert(
      fc.property(anyView, (view) => {
        if (view.online || view.connected) return true;
        return !['connect', 'prepare'].includes(nextAction(view).do);
      }),
    );
  });

  it('does the same with a device that could not be opened, whether its handler is open or not', () => {
    fc.assert(
      fc.property(anyView, (view) => {
        const failed = { ...view, failed: true, connected: false };
        expect(nextAction({ ...failed, prepared: true })).toEqual(nextAction({ ...failed, prepared: false }));
      }),
    );
  });

  it('never connects before the hotplug script is done, except to adopt what was connected', () => {
    fc.assert(
      fc.property(anyView, (view) => {
        const action = nextAction({ ...view, gated: true });
        return action.do !== 'connect' || view.backend === S.connected;
      }),
    );
  });
});

describe('a held device', () => {
  it('is closed by its frontend or the toolstack only', () => {
    fc.assert(
      fc.property(anyView, (view) => {
        const action = nextAction({ ...view, backend: S.connected, online: true, failed: false, held: true });
        const ends = [S.closing, S.closed, S.unknown, S.initialising] as readonly S[];
        expect(action.do !== 'wait').toBe(ends.includes(view.frontend));
      }),
    );
  });
});

describe('states', () => {
  it.each(['0', '1', '2', '3', '4', '5', '6', '7', '8'])('%s is itself', (text) => {
    expect(parseState(text)).toBe(Number(text));
  });
  it.each([undefined, '', '9', '-1', ' 4', '4 ', '04', '4\n', 'x'])('%j is Unknown', (text) => {
    expect(parseState(text)).toBe(S.unknown);
  });
  it('have names', () => {
    expect(stateName(S.initWait)).toBe('InitWait');
  });
});
