import { expect, it } from 'vitest';
import { versionText } from '../../../src/cli/versionText.ts';

it.each(['tsvmm', '/usr/bin/tsvmm', 'cloud-hypervisor-tsvmm', ''])('%j says what it is', (calledAs) => {
  expect(versionText(calledAs, true)).toMatch(/^tsvmm v\d+\.\d+\.\d+( \([0-9a-f]+(-dirty)?\))?\n$/);
});

it.each(['cloud-hypervisor', '/usr/bin/cloud-hypervisor'])(
  '%s says what clients of that name read',
  (calledAs) => {
    const lines = versionText(calledAs, false).split('\n');
    expect(lines).toEqual([
      'cloud-hypervisor v54.0.0',
      expect.stringMatching(/^tsvmm v/),
      'Migration Protocol Versions: none',
      '',
    ]);
    expect(versionText(calledAs, true)).toContain('\nEnabled features: ["kvm"]\n');
  },
);
