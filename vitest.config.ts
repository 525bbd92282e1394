import { defineConfig } from 'vitest/config';

interface TierOptions {
  readonly testTimeout: number;
  readonly hookTimeout: number;
  readonly globalSetup?: string;
  readonly setupFiles?: string[];
  readonly isolate?: boolean;
  readonly maxWorkers?: number;
  readonly retry?: { readonly count: number; readonly condition: RegExp };
}

const tier = (name: string, options: TierOptions) => ({
  extends: true as const,
  test: { name, include: [`test/${name}/**/*.test.ts`], ...options },
});

export default defineConfig({
  test: {
    maxWorkers: 2,
    // Like the time limits below: only a test that fails waits this long, on the busiest machine, too.
    expect: { poll: { timeout: 60_000 } },
    coverage: {
      provider: 'v8',
      include: ['src/**/*.ts'],
      // Entry points and the addon's loader run in the kvm and lab tiers, as processes of their own.
      exclude: ['src/bin/**', 'src/host/**', 'src/native.ts', 'src/**/*.d.ts'],
      reportsDirectory: 'coverage',
      reporter: ['text-summary', 'html'],
    },
    projects: [
      tier('unit', { testTimeout: 60_000, hookTimeout: 60_000 }),
      tier('kvm', { testTimeout: 300_000, hookTimeout: 300_000, globalSetup: 'test/kvm/buildGuests.ts' }),
      // One worker whose modules live through all files, so that they share one booted lab.
      tier('lab', {
        // What a test waits for has its own limits, by the lab's time; this is by that of a machine with much else to do.
        testTimeout: 900_000,
        hookTimeout: 180_000,
        setupFiles: ['test/lab/attempts.ts'],
        isolate: false,
        maxWorkers: 1,
        // The death of the emulated host is no fault of a test, which is run again in a new one.
        // The emulation of a processor that has virtualization corrupts a guest's registers once in a hundred boots or
        // so: a kernel that dies or stops before it is up is started again, and one that never comes up fails still.
        retry: {
          count: 2,
          condition:
            /the lab host is gone|Kernel panic - not syncing|passed without "(?:is up|Are you sure)|the guest did not come up/,
        },
      }),
      tier('package', { testTimeout: 300_000, hookTimeout: 300_000 }),
    ],
  },
});
