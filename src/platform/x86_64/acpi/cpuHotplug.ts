/**
 * vCPUs that come and go, in AML: the controller that says which, and a device for each vCPU that there may ever be.
 * The registers are those of `native/device/cpu_hotplug.h`.
 *
 * They are a table of their own, an SSDT, which machines with one vCPU for good do not have. All of it but the last
 * method is of the same length whatever the vCPUs' numbers, so that `cpuTable.ts` can copy it.
 */
import type { AmlWriter } from '../../acpi/aml.ts';
import { DEVICE_CHECK, EJECT_REQUEST, PRESENT } from '../../acpi/deviceStatus.ts';
import { memory32Fixed } from '../../acpi/resources.ts';
import { presentProcessor } from './madt.ts';

export interface CpuHotplugParameters {
  readonly address: number;
  readonly size: number;
  /** APIC ids by vCPU index, of all vCPUs that there may ever be. */
  readonly apicIds: readonly number[];
}

export function writeCpuHotplug(aml: AmlWriter, parameters: CpuHotplugParameters): void {
  const { apicIds } = parameters;
  cpuController(aml, parameters, apicIds.length);
  for (let index = 0; index < apicIds.length; index++) cpu(aml, index, apicIds[index] as number);
  cpuNotifications(aml, () => {
    for (let index = 0; index < apicIds.length; index++) cpuNotification(aml, index);
  });
}

/** The controller, and the methods of the processors' container. CSCN tells them what happened to them. */
export function cpuController(
  aml: AmlWriter,
  { address, size }: Omit<CpuHotplugParameters, 'apicIds'>,
  cpus: number,
): void {
  aml.device('\\_SB.PRES', () => {
    aml.name('_HID').eisaId('PNP0A06');
    aml.name('_UID').string('CPU Hotplug Controller');
    aml.name('_CRS').resourceTemplate(() => memory32Fixed(aml, address, size));
    aml.memoryRegion('PRST', address, size);
    aml.dwordField('PRST', [{ name: 'CSEL', bits: 32 }]);
    aml.byteField('PRST', [
      { name: '', bits: 32 },
      { name: 'CPEN', bits: 1 },
      { name: 'CINS', bits: 1 },
      { name: 'CRMV', bits: 1 },
      { name: 'CEJ0', bits: 1 },
    ]);
    aml.mutex('CPLK');
  });
  aml.device('\\_SB.CPUS', () => {
    aml.name('_HID').string('ACPI0010');
    aml.name('_CID').eisaId('PNP0A05');
    selecting(aml, 'CSTA', 1, () => {
      aml.store().arg(0).path('\\_SB.PRES.CSEL');
      aml.store().integer(0).local(0);
      aml.if(() => {
        aml.equal().path('\\_SB.PRES.CPEN').integer(1);
        aml.store().integer(PRESENT).local(0);
      });
    });
    selecting(aml, 'CEJ0', 1, () => {
      aml.store().arg(0).path('\\_SB.PRES.CSEL');
      aml.store().integer(1).path('\\_SB.PRES.CEJ0');
    });
    selecting(aml, 'CSCN', 0, () => {
      aml.store().integer(0).local(0);
      aml.while(() => {
        aml.less().local(0).byteInteger(cpus);
        aml.store().local(0).path('\\_SB.PRES.CSEL');
        changed(aml, 'CINS', DEVICE_CHECK);
        changed(aml, 'CRMV', EJECT_REQUEST);
        aml.increment().local(0);
      });
    });
  });
}

/** A method that has the controller for itself, and returns the first local variable. */
function selecting(aml: AmlWriter, name: string, args: number, body: () => void): void {
  aml.method(name, args, true, () => {
    aml.acquire('\\_SB.PRES.CPLK');
    body();
    aml.release('\\_SB.PRES.CPLK');
    if (name === 'CSTA') aml.return().local(0);
  });
}

/** Passes an event of the selected processor on, and has the controller forget it. */
function changed(aml: AmlWriter, flag: string, event: number): void {
  aml.if(() => {
    aml.equal().path(`\\_SB.PRES.${flag}`).integer(1);
    aml.path('CTFY').local(0).integer(event);
    aml.store().integer(1).path(`\\_SB.PRES.${flag}`);
  });
}

/** A processor (ACPI 6.5 §8.4). Its _MAT is what the MADT says of one that is there. */
export function cpu(aml: AmlWriter, index: number, apicId: number): void {
  aml.device(`\\_SB.CPUS.${nameOf(index)}`, () => {
    aml.name('_HID').string('ACPI0007');
    aml.name('_UID').byteInteger(index);
    aml.method('_STA', 0, true, () => aml.return().path('CSTA').byteInteger(index));
    aml.name('_MAT').buffer(() => {
      for (const byte of presentProcessor(index, apicId)) aml.byte(byte);
    });
    aml.method('_EJ0', 1, true, () => aml.path('CEJ0').byteInteger(index));
  });
}

/** CTFY: notifies the processor of its first argument of the second. */
export function cpuNotifications(aml: AmlWriter, body: () => void): void {
  aml.method('\\_SB.CPUS.CTFY', 2, true, body);
}

export function cpuNotification(aml: AmlWriter, index: number): void {
  aml.if(() => {
    aml.equal().arg(0).byteInteger(index);
    aml.notifyOf(nameOf(index)).arg(1);
  });
}

function nameOf(index: number): string {
  return `C${index.toString(16).toUpperCase().padStart(3, '0')}`;
}
