import { expect, test } from 'vitest';
import { halfLimits } from '../../../src/devices/rateLimiter.ts';

test('a limit of any kind of device of which a half is missing is found, once', () => {
  const bucket = (size: number, refill_time: number) => ({ size, refill_time });
  const half = { rate_limiter_config: { bandwidth: bucket(1, 0), ops: bucket(0, 5) } };
  const whole = { rate_limiter_config: { bandwidth: bucket(1, 5), ops: null } };
  expect(halfLimits([{ id: 'unlimited' }, half, whole, half])).toEqual([
    'bw_size without bw_refill_time',
    'ops_refill_time without ops_size',
  ]);
  expect(halfLimits([whole, { rate_limiter_config: { bandwidth: bucket(0, 0) } }])).toEqual([]);
});
