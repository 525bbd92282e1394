/**
 * Memory that comes while the guest runs, in AML: the controller that says which, and a device for each of its slots.
 * The registers are those of `native/device/memory_hotplug.h`.
 *
 * They are a table of their own, an SSDT, which only machines have that may get more memory. It is the same for all of
 * them.
 */
import type { AmlWriter } from './aml.ts';
import { DEVICE_CHECK, PRESENT } from './deviceStatus.ts';
import { cachedMemory64, memory32Fixed } from './resources.ts';

export interface MemoryHotplugParameters {
  readonly address: number;
  readonly size: number;
}

/** Of the controller; each can be filled once. */
export const MEMORY_SLOTS = 8;

/** Places in a 64-bit address space descriptor (ACPI 6.5 §6.4.3.5.1). */
const DESCRIPTOR_MINIMUM = 14;
const DESCRIPTOR_MAXIMUM = 22;
const DESCRIPTOR_LENGTH = 38;

export function writeMemoryHotplug(aml: AmlWriter, parameters: MemoryHotplugParameters): void {
  aml.device('\\_SB.MHPC', () => {
    registers(aml, parameters);
    scan(aml);
    selecting(aml, 'MRST', () => {
      aml.store().integer(0).local(0);
      aml.if(() => {
        aml.equal().path('MEN').integer(1);
        aml.store().integer(PRESENT).local(0);
      });
    });
    selecting(aml, 'MCRS', () => {
      aml.name('MR64').resourceTemplate(() => cachedMemory64(aml));
      aml.qwordFieldOf('MR64', DESCRIPTOR_MINIMUM, 'MMIN');
      aml.qwordFieldOf('MR64', DESCRIPTOR_MAXIMUM, 'MMAX');
      aml.qwordFieldOf('MR64', DESCRIPTOR_LENGTH, 'MLEN');
      joined(aml, 'MHBH', 'MHBL', 'MMIN');
      joined(aml, 'MHLH', 'MHLL', 'MLEN');
      aml.add().path('MMIN').path('MLEN').local(1);
      aml.subtract().local(1).integer(1).path('MMAX');
      aml.store().path('MR64').local(0);
    });
    selecting(aml, 'MPXM', () => aml.store().path('MHPX').local(0));
    for (let slot = 0; slot < MEMORY_SLOTS; slot++) memoryDevice(aml, slot);
    aml.method('MTFY', 2, true, () => {
      for (let slot = 0; slot < MEMORY_SLOTS; slot++) {
        aml.if(() => {
          aml.equal().arg(0).integer(slot);
          aml.notifyOf(nameOf(slot)).arg(1);
        });
      }
    });
  });
}

function registers(aml: AmlWriter, { address, size }: MemoryHotplugParameters): void {
  aml.name('_HID').eisaId('PNP0A06');
  aml.name('_UID').string('Memory Hotplug Controller');
  aml.name('_CRS').resourceTemplate(() => memory32Fixed(aml, address, size));
  aml.memoryRegion('MHPR', address, size);
  aml.dwordField('MHPR', [{ name: 'MSEL', bits: 32 }]);
  aml.dwordField('MHPR', [
    { name: 'MHBL', bits: 32 },
    { name: 'MHBH', bits: 32 },
    { name: 'MHLL', bits: 32 },
    { name: 'MHLH', bits: 32 },
    { name: 'MHPX', bits: 32 },
  ]);
  aml.byteField('MHPR', [
    { name: '', bits: 160 },
    { name: 'MEN', bits: 1 },
    { name: 'MINS', bits: 1 },
  ]);
  aml.mutex('MLCK');
}

/** MSCN: tells each slot that has new memory, and has the controller forget that. */
function scan(aml: AmlWriter): void {
  aml.method('MSCN', 0, true, () => {
    aml.acquire('MLCK');
    aml.store().integer(0).local(0);
    aml.while(() => {
      aml.less().local(0).integer(MEMORY_SLOTS);
      aml.store().local(0).path('MSEL');
      aml.if(() => {
        aml.equal().path('MINS').integer(1);
        aml.path('MTFY').local(0).integer(DEVICE_CHECK);
        aml.store().integer(1).path('MINS');
      });
      aml.increment().local(0);
    });
    aml.release('MLCK');
  });
}

/** A method that has the registers of the slot in its argument for itself, and returns the first local variable. */
function selecting(aml: AmlWriter, name: string, body: () => void): void {
  aml.method(name, 1, true, () => {
    aml.acquire('MLCK');
    aml.store().arg(0).path('MSEL');
    body();
    aml.release('MLCK');
    aml.return().local(0);
  });
}

/** Puts two registers together. */
function joined(aml: AmlWriter, high: string, low: string, target: string): void {
  aml.shiftLeft().path(high).integer(32).local(0);
  aml.or().local(0).path(low).path(target);
}

/** Memory (ACPI 6.5 §9.11.2). */
function memoryDevice(aml: AmlWriter, slot: number): void {
  aml.device(nameOf(slot), () => {
    aml.name('_HID').eisaId('PNP0C80');
    aml.name('_UID').integer(slot);
    for (const [name, method] of [
      ['_STA', 'MRST'],
      ['_CRS', 'MCRS'],
      ['_PXM', 'MPXM'],
    ] as const) {
      aml.method(name, 0, true, () => aml.return().path(method).integer(slot));
    }
  });
}

function nameOf(slot: number): string {
  return `M${String(slot).padStart(3, '0')}`;
}
