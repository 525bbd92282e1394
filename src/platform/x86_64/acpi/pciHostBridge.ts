/** A PCI segment in AML: its host bridge with its resources, and the slots below it. */

import type { AmlWriter } from '../../acpi/aml.ts';
import { FIRST_SLOT_BESIDE_BRIDGE, pciSlots } from '../../acpi/pciHotplug.ts';
import {
  busRange,
  ioPorts,
  ioRange,
  memory32Fixed,
  memoryWindow32,
  memoryWindow64,
} from '../../acpi/resources.ts';
import type { PciSegment } from '../../segments.ts';

/** Mechanism 1's two registers (PCI 3.0 §3.2.2.3.2), which lead to segment 0. */
const PCI_CONFIG_PORT = 0xcf8;
const PCI_CONFIG_PORTS = 8;

/** Of a segment's host bridge in \_SB. */
export function bridgeName(segment: number): string {
  return `PC${segment.toString(16).toUpperCase().padStart(2, '0')}`;
}

/** Segment 0 has the ports, and a bridge in slot 0. */
export function pciHostBridge(aml: AmlWriter, segment: PciSegment): void {
  const { number, ecam, window32, window64, proximity } = segment;
  aml.device(bridgeName(number), () => {
    aml.name('_HID').eisaId('PNP0A08');
    aml.name('_CID').eisaId('PNP0A03');
    aml.name('_SEG').integer(number);
    aml.name('_UID').integer(number);
    aml.name('_CCA').integer(1);
    if (proximity !== undefined) aml.name('_PXM').integer(proximity);
    preserveBootConfiguration(aml);
    aml.name('_CRS').resourceTemplate(() => {
      busRange(aml, 0, 0);
      memory32Fixed(aml, ecam.address, ecam.size);
      if (number === 0) ioPorts(aml, PCI_CONFIG_PORT, PCI_CONFIG_PORTS);
      if (window32.size > 0) memoryWindow32(aml, window32.start, window32.size);
      if (window64.size > 0) memoryWindow64(aml, window64.start, window64.size);
      if (number !== 0) return;
      ioRange(aml, 0, PCI_CONFIG_PORT - 1);
      ioRange(aml, PCI_CONFIG_PORT + PCI_CONFIG_PORTS, 0xffff);
    });
    pciSlots(aml, number === 0 ? FIRST_SLOT_BESIDE_BRIDGE : 0);
  });
}

/** PCI Firmware 3.3 §4.6.5: function 5 returns 0, so the guest keeps the BARs that it finds. */
function preserveBootConfiguration(aml: AmlWriter): void {
  aml.method('_DSM', 4, false, () => {
    aml.if(() => {
      aml
        .equal()
        .arg(0)
        .buffer(() => {
          // E5C937D0-3553-4D7A-9117-EA4D19C3434D, in the byte order of ToUUID.
          aml.dword(0xe5c937d0).word(0x3553).word(0x4d7a).word(0x1791).dword(0xc3194dea).word(0x4d43);
        });
      aml.if(() => {
        aml.equal().arg(2).integer(0);
        aml.return().buffer(() => aml.byte(0x21));
      });
      aml.if(() => {
        aml.equal().arg(2).integer(5);
        aml.return().integer(0);
      });
    });
    aml.return().buffer(() => aml.byte(0));
  });
}
