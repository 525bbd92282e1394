/**
 * The SSDT with the PCI segments that come behind segment 0, which the DSDT has. Few machines have any, so it is built
 * when one does, and not loaded before.
 */

import { AmlWriter } from '../../acpi/aml.ts';
import { PCI_SCAN_MORE, scanSegment } from '../../acpi/pciHotplug.ts';
import { memory32Fixed } from '../../acpi/resources.ts';
import { finishTable, startTable, type TableArea } from '../../acpi/sdt.ts';
import { SDT_HEADER_SIZE } from '../../acpi/tableHeader.ts';
import { viewOf } from '../../bytes.ts';
import type { PciSegment } from '../../segments.ts';
import { bridgeName, pciHostBridge } from './pciHostBridge.ts';

/** More than a segment takes, and than what there is once. */
const BYTES_PER_SEGMENT = 4096;
const FIXED_BYTES = 1024;

export function renderPciSegments(segments: readonly PciSegment[]): Uint8Array {
  const bytes = new Uint8Array(FIXED_BYTES + segments.length * BYTES_PER_SEGMENT);
  const area: TableArea = { bytes, view: viewOf(bytes), address: 0 };
  startTable(area, 0, 'SSDT', 2);
  const aml = new AmlWriter(bytes, SDT_HEADER_SIZE);
  aml.scope('\\_SB', () => {
    ecams(aml, segments);
    for (const segment of segments) pciHostBridge(aml, segment);
  });
  aml.scope('\\_SB.PHPR', () => {
    aml.method(PCI_SCAN_MORE, 0, true, () => {
      for (const { number } of segments) scanSegment(aml, number, bridgeName(number));
    });
  });
  finishTable(area, 0, aml.position);
  return bytes.slice(0, aml.position);
}

/** PCI Firmware 3.3 §4.1.2 wants them as motherboard resources. */
function ecams(aml: AmlWriter, segments: readonly PciSegment[]): void {
  aml.device('MBR1', () => {
    aml.name('_HID').eisaId('PNP0C02');
    aml.name('_UID').integer(1);
    aml.name('_CRS').resourceTemplate(() => {
      for (const { ecam } of segments) memory32Fixed(aml, ecam.address, ecam.size);
    });
  });
}
