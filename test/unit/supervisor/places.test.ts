import { homedir } from 'node:os';
import { expect, onTestFinished, test, vi } from 'vitest';
import { UsageError } from '../../../src/cli/usageError.ts';
import { supervisorPlaces } from '../../../src/supervisor/places.ts';

function as(uid: number): void {
  const spy = vi.spyOn(process as { getuid: () => number }, 'getuid').mockReturnValue(uid);
  onTestFinished(() => spy.mockRestore());
}

test.each([
  [{ HOME: '/me' }, '/me/.local/state/tsvmm', '/me/.local/state/tsvmm'],
  [{ HOME: '/me', XDG_RUNTIME_DIR: '/run/user/7' }, '/me/.local/state/tsvmm', '/run/user/7/tsvmm'],
  [{ HOME: '/me', XDG_STATE_HOME: '/s', XDG_RUNTIME_DIR: '' }, '/s/tsvmm', '/s/tsvmm'],
  [
    { HOME: '/me', XDG_STATE_HOME: '', XDG_RUNTIME_DIR: 'run' },
    '/me/.local/state/tsvmm',
    '/me/.local/state/tsvmm',
  ],
  [{ HOME: '' }, `${homedir()}/.local/state/tsvmm`, `${homedir()}/.local/state/tsvmm`],
  [{ HOME: '/me', TSVMM_DIR: '/vms' }, '/vms', '/vms'],
])("a user's places with %j", (environment, root, runtime) => {
  as(1000);
  const places = supervisorPlaces(undefined, environment);
  expect([places.root, places.apiSocket]).toEqual([root, `${runtime}/tsvmmd.sock`]);
});

test('a folder that is given is the place, and an empty one is none', () => {
  as(0);
  expect(supervisorPlaces('/a', { TSVMM_DIR: '/b' })).toMatchObject({ root: '/a' });
  expect(supervisorPlaces('a', {}).root).toBe(`${process.cwd()}/a`);
  expect(() => supervisorPlaces('', {})).toThrow(UsageError);
  expect(supervisorPlaces(undefined, { TSVMM_DIR: '' })).toMatchObject({ root: '/var/lib/tsvmm' });
});
