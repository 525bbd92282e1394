/**
 * PCI devices that come and go, in AML: the controller that says which, and the slots that are notified. The registers
 * are those of `native/device/pci_hotplug.h`.
 */

import { PCI_SLOTS } from '../../config/limits.ts';
import type { AmlWriter } from './aml.ts';
import { DEVICE_CHECK, EJECT_REQUEST } from './deviceStatus.ts';
import { memory32Fixed } from './resources.ts';

export interface PciHotplugParameters {
  readonly address: number;
  readonly size: number;
}

/** Device number 0 of segment 0 is the host bridge's, which stays. */
export const FIRST_SLOT_BESIDE_BRIDGE = 1;

/** Looks at the segments behind segment 0, where there are any. */
export const PCI_SCAN_MORE = 'PSCX';

/** The controller. PCEJ ejects a slot, PSCN tells the slots what happened to them. */
export function pciHotplugController(aml: AmlWriter, { address, size }: PciHotplugParameters): void {
  aml.device('PHPR', () => {
    aml.name('_HID').eisaId('PNP0A06');
    aml.name('_UID').string('PCI Hotplug Controller');
    aml.name('_CRS').resourceTemplate(() => memory32Fixed(aml, address, size));
    aml.memoryRegion('PCST', address, size);
    aml.dwordField('PCST', [
      { name: 'PCIU', bits: 32 },
      { name: 'PCID', bits: 32 },
      { name: 'B0EJ', bits: 32 },
      { name: 'PSEG', bits: 32 },
    ]);
    aml.mutex('BLCK');
    // Slot and segment.
    aml.method('PCEJ', 2, true, () => {
      aml.acquire('BLCK');
      aml.store().arg(1).path('PSEG');
      aml.shiftLeft().integer(1).arg(0).path('B0EJ');
      aml.release('BLCK');
    });
    aml.method('PSCN', 0, true, () => {
      aml.acquire('BLCK');
      scanSegment(aml, 0, 'PC00');
      aml.if(() => aml.condRefOf(PCI_SCAN_MORE).path(PCI_SCAN_MORE));
      aml.release('BLCK');
    });
  });
}

/** Inside of a method of the controller that holds BLCK. @param bridge the segment's, in \_SB */
export function scanSegment(aml: AmlWriter, segment: number, bridge: string): void {
  aml.store().integer(segment).path('PSEG');
  aml.path(`\\_SB.${bridge}.DVNT`).path('PCIU').integer(DEVICE_CHECK);
  aml.path(`\\_SB.${bridge}.DVNT`).path('PCID').integer(EJECT_REQUEST);
}

/** The slots below their host bridge. DVNT notifies those whose bit is set in its first argument. */
export function pciSlots(aml: AmlWriter, first: number): void {
  for (let slot = first; slot < PCI_SLOTS; slot++) {
    aml.device(nameOf(slot), () => {
      aml.name('_SUN').integer(slot);
      aml.name('_ADR').integer(slot * 0x1_0000);
      aml.method('_EJ0', 1, true, () => aml.path('\\_SB.PHPR.PCEJ').path('_SUN').path('_SEG'));
    });
  }
  aml.method('DVNT', 2, true, () => {
    for (let slot = first; slot < PCI_SLOTS; slot++) {
      aml.if(() => {
        aml.and(
          () => aml.arg(0),
          () => aml.integer(2 ** slot),
        );
        aml.notifyOf(nameOf(slot)).arg(1);
      });
    }
  });
}

function nameOf(slot: number): string {
  return `S${String(slot).padStart(3, '0')}`;
}
