/** Token buckets that limit a device's operations and bytes, its own or those of a group. */
import { invalid } from '../rules.ts';
import { type Infer, once } from '../schema.ts';

const tokenBucket = once(
  () =>
    ({
      type: 'object',
      name: 'TokenBucket',
      nullable: true,
      fields: {
        size: { type: 'integer', u64: true, required: true, help: 'in a full bucket; 0: no limit' },
        one_time_burst: { type: 'integer', u64: true, nullable: true, help: 'on top of that, once' },
        refill_time: {
          type: 'integer',
          u64: true,
          required: true,
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
export type RateLimiterConfig = Infer<ReturnType<typeof rateLimiterField>>;
export type RateLimitGroupConfig = Infer<typeof rateLimitGroupConfig>;

interface Members {
  readonly rate_limit_groups?: readonly RateLimitGroupConfig[];
  readonly disks?: readonly { readonly path?: string; readonly rate_limit_group?: string }[];
}

/** @throws ConfigError for a group without limits, and for a member of a group that is not there */
export function validateRateLimitGroups({ rate_limit_groups: groups = [], disks = [] }: Members): void {
  for (const { id, rate_limiter_config: limits } of groups) {
    if (!isLimit(limits.bandwidth) && !isLimit(limits.ops)) {
      throw invalid(`The rate limit group ${id} limits nothing`);
    }
  }
  for (const { path, rate_limit_group: group } of disks) {
    if (group !== undefined && !groups.some(({ id }) => id === group)) {
      throw invalid(`The disk ${path} is in the rate limit group ${group}, which does not exist`);
    }
  }
}

/** A bucket without size or refill time is switched off. */
export function isLimit(bucket: TokenBucketConfig | null): boolean {
  return bucket !== null && bucket.size > 0 && bucket.refill_time > 0;
}
