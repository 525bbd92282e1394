/** The FADT of a hardware-reduced machine (ACPI 6.3 §5.2.9): no fixed registers but reset, sleep and the PM timer. */
import { setAscii, setU64 } from '../bytes.ts';
import { finishTable, startTable, type TableArea } from './sdt.ts';

const FADT_SIZE = 276;
const FADT_REVISION = 6;
const FADT_MINOR_REVISION = 3;

const PM_TMR_BLK = 76;
const PM_TMR_LEN = 91;
const IAPC_BOOT_ARCH = 109;
const FLAGS = 112;
const RESET_REG = 116;
const RESET_VALUE = 128;
const MINOR_REVISION = 131;
const X_DSDT = 140;
const X_PM_TMR_BLK = 208;
const SLEEP_CONTROL_REG = 244;
const SLEEP_STATUS_REG = 256;
const HYPERVISOR_IDENTITY = 268;

const TMR_VAL_EXT = 1 << 8;
const RESET_REG_SUP = 1 << 10;
const HW_REDUCED_ACPI = 1 << 20;

/** There is no VGA to probe for; the absent 8042 bit says the same of a keyboard controller (§5.2.9.3). */
const VGA_NOT_PRESENT = 1 << 2;

const ACCESS_BYTE = 1;
const ACCESS_DWORD = 3;

export interface FadtParameters {
  readonly dsdt: number;
  /** Sleep control, sleep status and reset register, one byte. */
  readonly sleepResetPort: number;
  readonly pmTimerPort: number;
}

/** Written to the reset register to reset the machine. */
const RESET_VALUE_RESET = 1;

export function writeFadt(area: TableArea, start: number, parameters: FadtParameters): void {
  startTable(area, start, 'FACP', FADT_REVISION);
  const { bytes, view } = area;
  view.setUint32(start + PM_TMR_BLK, parameters.pmTimerPort, true);
  view.setUint8(start + PM_TMR_LEN, 4);
  view.setUint16(start + IAPC_BOOT_ARCH, VGA_NOT_PRESENT, true);
  view.setUint32(start + FLAGS, HW_REDUCED_ACPI | RESET_REG_SUP | TMR_VAL_EXT, true);
  ioRegister(view, start + RESET_REG, parameters.sleepResetPort, 8, ACCESS_BYTE);
  view.setUint8(start + RESET_VALUE, RESET_VALUE_RESET);
  view.setUint8(start + MINOR_REVISION, FADT_MINOR_REVISION);
  setU64(view, start + X_DSDT, parameters.dsdt);
  ioRegister(view, start + X_PM_TMR_BLK, parameters.pmTimerPort, 32, ACCESS_DWORD);
  ioRegister(view, start + SLEEP_CONTROL_REG, parameters.sleepResetPort, 8, ACCESS_BYTE);
  ioRegister(view, start + SLEEP_STATUS_REG, parameters.sleepResetPort, 8, ACCESS_BYTE);
  setAscii(bytes, start + HYPERVISOR_IDENTITY, 'TSVMM');
  finishTable(area, start, start + FADT_SIZE);
}

/** A generic address structure in I/O space (§5.2.3.2). */
function ioRegister(view: DataView, offset: number, port: number, bits: number, access: number): void {
  const systemIo = 1;
  view.setUint8(offset, systemIo);
  view.setUint8(offset + 1, bits);
  view.setUint8(offset + 3, access);
  setU64(view, offset + 4, port);
}
