/** The DSDT of the x86_64 machine: what a guest cannot find by itself. */
import { AmlWriter } from '../../acpi/aml.ts';
import { PCI_SCAN_MORE, type PciHotplugParameters, pciHotplugController } from '../../acpi/pciHotplug.ts';
import { edgeInterrupt, ioPorts, memory32Fixed } from '../../acpi/resources.ts';
import { finishTable, startTable, type TableArea } from '../../acpi/sdt.ts';
import { SDT_HEADER_SIZE } from '../../acpi/tableHeader.ts';
import { pciHostBridge } from './pciHostBridge.ts';

export interface DsdtParameters {
  readonly ecam: { readonly address: number; readonly size: number };
  readonly window32: { readonly start: number; readonly size: number };
  readonly window64: { readonly start: number; readonly size: number };
  readonly ged: { readonly address: number; readonly size: number; readonly gsi: number };
  readonly pciHotplug: PciHotplugParameters;
  /** Where the 16 bytes of the VM generation id are. */
  readonly vmGeneration: { readonly address: number };
  readonly clock: { readonly port: number; readonly gsi: number };
  /** Absent if the machine has no serial port. */
  readonly serial: { readonly port: number; readonly gsi: number } | undefined;
}

/** Bits of the GED's register, cleared by reading it. */
const GED_CPU = 1 << 0;
const GED_MEMORY = 1 << 1;
const GED_PCI = 1 << 2;
const GED_POWER_BUTTON = 1 << 3;
const GED_VM_GENERATION = 1 << 4;

/** In the SSDT of machines whose vCPUs may come and go. In others it is not called. */
const CPU_SCAN = '\\_SB.CPUS.CSCN';
/** In that of machines that may get more memory. */
const MEMORY_SCAN = '\\_SB.MHPC.MSCN';

/** The power button's general-purpose event, whose method has the number in its name. */
const GPE_POWER_BUTTON = 0;
const GPE_POWER_BUTTON_METHOD = '_E00';

const SERIAL_PORTS = 8;
const CLOCK_PORTS = 2;

/** Sleep type of S5, as written to PM1 control or the sleep control register. */
const SLEEP_TYPE_S5 = 5;
/** The only sleep state that a button is needed for is suspend-to-idle. */
const SLEEP_STATE_S0 = 0;

/** Notification that a power button was pressed (ACPI 6.5 table 5.186). */
const POWER_BUTTON_PRESSED = 0x80;
/** That the VM generation id is another one (Microsoft's "Virtual Machine Generation ID", 2012). */
const VM_GENERATION_CHANGED = 0x80;

/**
 * Writes the table and returns where it ends. The serial port comes last, so that leaving it out cuts the table short.
 */
export function writeDsdt(area: TableArea, start: number, parameters: DsdtParameters): number {
  startTable(area, start, 'DSDT', 6);
  const aml = new AmlWriter(area.bytes, start + SDT_HEADER_SIZE);
  aml.externalMethods([
    [CPU_SCAN, 0],
    [MEMORY_SCAN, 0],
    [`\\_SB.PHPR.${PCI_SCAN_MORE}`, 0],
  ]);
  aml.scope('\\_SB', () => {
    motherboard(aml, parameters);
    pciHostBridge(aml, { number: 0, ...parameters });
    pciHotplugController(aml, parameters.pciHotplug);
    clock(aml, parameters);
    powerButton(aml);
    vmGeneration(aml, parameters);
    eventDispatch(aml, parameters);
  });
  aml.scope('\\_GPE', () => {
    aml.method(GPE_POWER_BUTTON_METHOD, 0, false, () => aml.notify('\\_SB.PWRB', POWER_BUTTON_PRESSED));
  });
  aml.name('\\_S5').package(4, () => {
    aml.integer(SLEEP_TYPE_S5).integer(SLEEP_TYPE_S5).integer(0).integer(0);
  });
  serialPort(aml, parameters);
  finishTable(area, start, aml.position);
  return aml.position;
}

/** Reserves ECAM: PCI Firmware 3.3 §4.1.2 wants it as a motherboard resource. */
function motherboard(aml: AmlWriter, { ecam }: DsdtParameters): void {
  aml.device('MBRD', () => {
    aml.name('_HID').eisaId('PNP0C02');
    aml.name('_UID').integer(0);
    aml.name('_CRS').resourceTemplate(() => memory32Fixed(aml, ecam.address, ecam.size));
  });
}

/** A press is told by the GPE where the guest has enabled it, which wakes it too, and by the GED elsewhere. */
function powerButton(aml: AmlWriter): void {
  aml.device('PWRB', () => {
    aml.name('_HID').eisaId('PNP0C0C');
    aml.name('_UID').integer(0);
    aml.name('_PRW').package(2, () => aml.integer(GPE_POWER_BUTTON).integer(SLEEP_STATE_S0));
  });
}

function clock(aml: AmlWriter, { clock: { port, gsi } }: DsdtParameters): void {
  aml.device('RTC_', () => {
    aml.name('_HID').eisaId('PNP0B00');
    aml.name('_CRS').resourceTemplate(() => {
      ioPorts(aml, port, CLOCK_PORTS);
      edgeInterrupt(aml, gsi);
    });
  });
}

/** Tells a guest that it was cloned or went back in time. Found by the compatible id; the others are ours. */
function vmGeneration(aml: AmlWriter, { vmGeneration: { address } }: DsdtParameters): void {
  aml.device('VGEN', () => {
    aml.name('_HID').string('TSVM0001');
    aml.name('_CID').string('VM_Gen_Counter');
    aml.name('_DDN').string('VM_Gen_Counter');
    aml.name('ADDR').package(2, () => aml.integer(address).integer(0));
  });
}

/** The generic event device (ACPI 6.5 §5.6.9) and, apart from it, the controller whose register tells events apart. */
function eventDispatch(aml: AmlWriter, { ged }: DsdtParameters): void {
  aml.device('GEC', () => {
    aml.name('_HID').eisaId('PNP0A06');
    aml.name('_UID').string('Generic Event Controller');
    aml.name('_CRS').resourceTemplate(() => memory32Fixed(aml, ged.address, ged.size));
    aml.memoryRegion('GDST', ged.address, ged.size);
    aml.byteField('GDST', [{ name: 'GDAT', bits: 8 * ged.size }]);
    aml.method('ESCN', 0, true, () => {
      aml.store().path('GDAT').local(0);
      onEvent(aml, GED_CPU, () => aml.path(CPU_SCAN));
      onEvent(aml, GED_MEMORY, () => aml.path(MEMORY_SCAN));
      onEvent(aml, GED_PCI, () => aml.path('\\_SB.PHPR.PSCN'));
      onEvent(aml, GED_POWER_BUTTON, () => aml.notify('\\_SB.PWRB', POWER_BUTTON_PRESSED));
      onEvent(aml, GED_VM_GENERATION, () => aml.notify('\\_SB.VGEN', VM_GENERATION_CHANGED));
    });
  });
  aml.device('GED', () => {
    aml.name('_HID').string('ACPI0013');
    aml.name('_UID').integer(0);
    aml.name('_CRS').resourceTemplate(() => edgeInterrupt(aml, ged.gsi));
    aml.method('_EVT', 1, true, () => aml.path('\\_SB.GEC.ESCN'));
  });
}

/** What is done for one bit of the GED's register, which the first local variable holds. */
function onEvent(aml: AmlWriter, bit: number, action: () => void): void {
  aml.if(() => {
    aml.and(
      () => aml.local(0),
      () => aml.integer(bit),
    );
    action();
  });
}

function serialPort(aml: AmlWriter, { serial }: DsdtParameters): void {
  if (serial === undefined) {
    return;
  }
  aml.device('\\_SB.COM1', () => {
    aml.name('_HID').eisaId('PNP0501');
    aml.name('_UID').integer(0);
    aml.name('_DDN').string('COM1');
    aml.name('_CRS').resourceTemplate(() => {
      edgeInterrupt(aml, serial.gsi);
      ioPorts(aml, serial.port, SERIAL_PORTS);
    });
  });
}
