/** Token buckets that limit a device's operations and bytes. */

const tokenBucket = {
  type: 'object',
  name: 'TokenBucket',
  fields: {
    size: { type: 'integer', required: true },
    one_time_burst: { type: 'integer' },
    refill_time: { type: 'integer', required: true },
  },
} as const;

export const rateLimiterConfig = {
  type: 'object',
  name: 'RateLimiterConfig',
  strict: true,
  fields: { bandwidth: tokenBucket, ops: tokenBucket },
} as const;
