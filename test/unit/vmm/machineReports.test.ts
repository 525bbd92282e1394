import { expect, test, vi } from 'vitest';
import { MachineReports } from '../../../src/vmm/machineReports.ts';

// As of a package that was replaced while its process runs.
vi.mock('../../../src/vmm/outputFailure.ts', () => {
  throw new Error('there is no such module any more');
});

test('an output that fails is told also where the words for it cannot be loaded any more', async () => {
  const events: string[] = [];
  const warnings: string[] = [];
  const reports = new MachineReports({
    config: () => undefined,
    emit: (_, event, { id, reason }) => events.push(`${event} ${id}: ${reason}`),
    warn: (message) => warnings.push(message),
  });
  reports.pass({ type: 'output-failed', id: '__serial', file: 'output', reason: 'No space left on device' });
  expect(events).toEqual(['output-failed __serial: No space left on device']);
  await expect.poll(() => warnings).toHaveLength(1);
});
