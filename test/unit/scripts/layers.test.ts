import { expect, test } from 'vitest';
import { checkLayers, importComplaints } from '../../../scripts/lib/layers.mjs';

test('what is for every architecture imports nothing of one', () => {
  const text =
    "import { A } from '../platform/x86_64/memoryMap.ts';\nconst { B } = await import('./x86_64/b.ts');";
  expect(importComplaints('vmm/memoryResize.ts', text)).toEqual([
    'src/vmm/memoryResize.ts imports ../platform/x86_64/memoryMap.ts, which is for one architecture',
    'src/vmm/memoryResize.ts imports ./x86_64/b.ts, which is for one architecture',
  ]);
  expect(importComplaints('platform/x86_64/plan.ts', text)).toEqual([]);
  expect(importComplaints('platform/plan.ts', text)).toEqual([]);
});

test('nothing points the wrong way', () => {
  checkLayers();
});
