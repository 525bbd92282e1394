import { expect, test } from 'vitest';
import { readDefinition } from '../../../src/supervisor/definition.ts';
import { HeldDefinition } from '../../../src/supervisor/heldDefinition.ts';

const config = { payload: { kernel: '/k' } };
const good = { definition: readDefinition({ name: 'one', config, policy: { stop_timeout: 77 } }) };
const broken = (of: { config: boolean; policy: boolean }) => ({
  definition: readDefinition({ name: 'one', config: {} }),
  problem: { reason: 'cut off', ...of },
});

test('what was never read is nothing to act by, and is not shown', () => {
  const held = new HeldDefinition(broken({ config: true, policy: true }));
  expect([held.config, held.policy, held.describe()]).toEqual([undefined, undefined, {}]);
  held.replace(broken({ config: true, policy: false }));
  expect(held.policy?.stop_timeout).toBe(30);
  expect(held.describe()).toEqual({ policy: held.policy });
  held.replace(good);
  expect([held.config, held.policy?.stop_timeout, held.problem]).toEqual([config, 77, undefined]);
});

test('what was read last is acted by, and not shown as what is there now', () => {
  const held = new HeldDefinition(good);
  held.replace(broken({ config: true, policy: true }));
  held.replace(broken({ config: true, policy: true }));
  expect([held.config, held.policy?.stop_timeout]).toEqual([config, 77]);
  expect(held.describe()).toEqual({});
  expect(held.problem?.reason).toBe('cut off');
});
