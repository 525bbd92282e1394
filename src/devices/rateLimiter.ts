/** Token buckets that limit a device's operations and bytes, its own or those of a group. */
import { invalid } from '../config/rules.ts';
import { type Infer, once } from '../config/schema.ts';
import type { RateLimiterSpec, TokenBucketSpec } from '../native.ts';

const tokenBucket = once(
  () =>
    ({
      type: 'object',
      name: 'TokenBucket',
      nullable: true,
      fields: {
        size: {
          type: 'integer',
          u64: true,
          required: true,
          optionDefault: 0,
          help: 'in a full bucket; 0: no limit',
        },
        one_time_burst: {
          type: 'integer',
          u64: true,
          nullable: true,
          optionDefault: 0,
          help: 'on top of that, once',
        },
        refill_time: {
          type: 'integer',
          u64: true,
          required: true,
          optionDefault: 0,
          help: 'fill an empty bucket in that many ms; 0: no limit',
        },
      },
    }) as const,
);

/** The limits of a device or a group, spread over six keys on the command line. */
export const rateLimiterField = once(
  () =>
    ({
      type: 'object',
      name: 'RateLimiterConfig',
      strict: true,
      help: 'Limits of bytes and operations in a time',
      fields: {
        bandwidth: { ...tokenBucket(), help: 'Bytes' },
        ops: { ...tokenBucket(), help: 'Operations' },
      },
      cli: false,
      memberKeys: {
        bw_size: ['bandwidth', 'size'],
        bw_one_time_burst: ['bandwidth', 'one_time_burst'],
        bw_refill_time: ['bandwidth', 'refill_time'],
        ops_size: ['ops', 'size'],
        ops_one_time_burst: ['ops', 'one_time_burst'],
        ops_refill_time: ['ops', 'refill_time'],
      },
    }) as const,
);

const rateLimitGroupFields = once(
  () =>
    ({
      id: { type: 'string', required: true, help: 'What disks call the group' },
      rate_limiter_config: { ...rateLimiterField(), required: true },
    }) as const,
);

export const rateLimitGroupConfig = {
  type: 'object',
  name: 'RateLimitGroupConfig',
  get fields() {
    return rateLimitGroupFields();
  },
} as const;

export type TokenBucketConfig = Infer<ReturnType<typeof tokenBucket>>;
type RateLimiterConfig = Infer<ReturnType<typeof rateLimiterField>>;
export type RateLimitGroupConfig = Infer<typeof rateLimitGroupConfig>;

/** @throws ConfigError for a group without limits */
export function validateRateLimitGroups(groups: readonly RateLimitGroupConfig[]): void {
  for (const { id, rate_limiter_config: limits } of groups) {
    if (!isLimit(limits.bandwidth) && !isLimit(limits.ops)) {
      throw invalid(`The rate limit group ${id} limits nothing`);
    }
  }
}

/** A bucket without size or refill time is switched off. */
export function isLimit(bucket: TokenBucketConfig | null): boolean {
  return bucket !== null && bucket.size > 0 && bucket.refill_time > 0;
}

/**
 * Limits of which only a part is given, so that there would be none: surely a mistake.
 * @param devices of any kind
 */
export function halfLimits(devices: readonly object[]): string[] {
  const found = new Set<string>();
  for (const { rate_limiter_config: limits } of devices as readonly Limited[]) {
    for (const [name, key] of [
      ['bandwidth', 'bw'],
      ['ops', 'ops'],
    ] as const) {
      const bucket = limits?.[name] ?? null;
      if (bucket === null || isLimit(bucket)) continue;
      if (bucket.size > 0) found.add(`${key}_size without ${key}_refill_time`);
      if (bucket.refill_time > 0) found.add(`${key}_refill_time without ${key}_size`);
    }
  }
  return [...found];
}

interface Limited {
  readonly rate_limiter_config?: RateLimiterConfig;
  readonly rate_limit_group?: string;
}

/** The limits of a device as the core takes them: those of its group, its own, or undefined. */
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
