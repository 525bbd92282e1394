import { defineConfig } from 'vitest/config';

const tier = (name: string, limits: { testTimeout: number; hookTimeout: number }) => ({
  extends: true as const,
  test: { name, include: [`test/${name}/**/*.test.ts`], ...limits },
});

export default defineConfig({
  test: {
    maxWorkers: 2,
    coverage: {
      provider: 'v8',
      include: ['src/**/*.ts'],
      // Entry points and the addon's loader run in the kvm and lab tiers, as processes of their own.
      exclude: ['src/bin/**', 'src/host/**', 'src/native.ts', 'src/**/*.d.ts'],
      reportsDirectory: 'coverage',
      reporter: ['text-summary', 'html'],
    },
    projects: [
      tier('unit', { testTimeout: 10_000, hookTimeout: 10_000 }),
      tier('kvm', { testTimeout: 30_000, hookTimeout: 30_000 }),
      tier('lab', { testTimeout: 120_000, hookTimeout: 180_000 }),
      tier('package', { testTimeout: 120_000, hookTimeout: 180_000 }),
    ],
  },
});
