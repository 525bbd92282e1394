import { describe, expect, it } from 'vitest';
import { called, detach } from '../../../../src/api/libvirt/attachments.ts';
import type { Domains } from '../../../../src/api/libvirt/domains.ts';
import { EventHistory } from '../../../../src/supervisor/eventHistory.ts';
import type { SupervisedVm } from '../../../../src/supervisor/supervisedVm.ts';

const LIVE = { live: true, config: false };

const vm = { definition: { name: 'one', config: {} } } as unknown as SupervisedVm;

/** Detaches the only disk, with a guest that never answers. @returns whether that has ended, as often as it is asked */
function detaching(events: EventHistory): () => Promise<string> {
  const domains = {
    events,
    refresh: async () => ({ disks: [{ id: 'd', path: '/d' }] }),
    call: async () => undefined,
  } as unknown as Domains;
  const done = detach(domains, vm, called('d'), LIVE).then(() => 'done');
  const soon = () => new Promise<string>((resolve) => setTimeout(resolve, 20, 'pending'));
  return () => Promise.race([done, soon()]);
}

describe('a device that is detached from a machine', () => {
  it('is waited for until the guest has given it up', async () => {
    const events = new EventHistory();
    const state = detaching(events);
    expect(await state()).toBe('pending');
    events.add('one', { source: 'vm', event: 'device-removed', properties: { id: 'other' } });
    events.add('two', { source: 'vm', event: 'device-removed', properties: { id: 'd' } });
    expect(await state()).toBe('pending');
    events.add('one', { source: 'vm', event: 'device-removed', properties: { id: 'd' } });
    expect(await state()).toBe('done');
  });

  it('is not waited for once the machine has ended', async () => {
    const events = new EventHistory();
    const state = detaching(events);
    events.add('two', { source: 'supervisor', event: 'stopped' });
    expect(await state()).toBe('pending');
    events.add('one', { source: 'supervisor', event: 'stopped' });
    expect(await state()).toBe('done');
  });
});
