/** Limits of the configuration as the core takes them. */
import type {
  RateLimiterConfig,
  RateLimitGroupConfig,
  TokenBucketConfig,
} from '../config/devices/rateLimiter.ts';
import type { RateLimiterSpec, TokenBucketSpec } from '../native.ts';

interface Limited {
  readonly rate_limiter_config?: RateLimiterConfig;
  readonly rate_limit_group?: string;
}

/** The limits of a device: those of its group, its own, or undefined. */
export function rateLimiterOf(
  device: Limited,
  groups: readonly RateLimitGroupConfig[] = [],
): RateLimiterSpec | undefined {
  const group = device.rate_limit_group ?? '';
  const shared = groups.find(({ id }) => id === group)?.rate_limiter_config;
  const config = shared ?? device.rate_limiter_config;
  if (config === undefined) return undefined;
  return { group, bandwidth: bucketOf(config.bandwidth), operations: bucketOf(config.ops) };
}

function bucketOf(bucket: TokenBucketConfig | null): TokenBucketSpec {
  return {
    size: bucket?.size ?? 0,
    oneTimeBurst: bucket?.one_time_burst ?? 0,
    refillTimeMs: bucket?.refill_time ?? 0,
  };
}
