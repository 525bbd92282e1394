/**
 * The FADT (ACPI 6.3 §5.2.9). The machine has fixed hardware, because nothing else wakes a Linux that was suspended to
 * idle: the SCI, the RTC's fixed event and the power button's GPE. Guests that were built for hardware-reduced ACPI
 * only take the sleep control register and the GED.
 */

import { finishTable, startTable, type TableArea } from '../../acpi/sdt.ts';
import { setAscii, setU64 } from '../../bytes.ts';

const FADT_SIZE = 276;
const FADT_REVISION = 6;
const FADT_MINOR_REVISION = 3;

const FIRMWARE_CTRL = 36;
const SCI_INT = 46;
const PM1A_EVT_BLK = 56;
const PM1A_CNT_BLK = 64;
const PM_TMR_BLK = 76;
const GPE0_BLK = 80;
const PM1_EVT_LEN = 88;
const PM1_CNT_LEN = 89;
const PM_TMR_LEN = 91;
const GPE0_BLK_LEN = 92;
const P_LVL2_LAT = 96;
const P_LVL3_LAT = 98;
const CENTURY = 108;
const IAPC_BOOT_ARCH = 109;
const FLAGS = 112;
const RESET_REG = 116;
const RESET_VALUE = 128;
const MINOR_REVISION = 131;
const X_DSDT = 140;
const X_PM1A_EVT_BLK = 148;
const X_PM1A_CNT_BLK = 172;
const X_PM_TMR_BLK = 208;
const X_GPE0_BLK = 220;
const SLEEP_CONTROL_REG = 244;
const SLEEP_STATUS_REG = 256;
const HYPERVISOR_IDENTITY = 268;

const WBINVD = 1 << 0;
const PROC_C1 = 1 << 2;
/** The power button is a device of the DSDT. */
const PWR_BUTTON = 1 << 4;
/** There is no sleep button. */
const SLP_BUTTON = 1 << 5;
const TMR_VAL_EXT = 1 << 8;
const RESET_REG_SUP = 1 << 10;

/** Microseconds that say that there is no C2 or C3 state by these registers. */
const NO_C2 = 101;
const NO_C3 = 1001;

/** There is no VGA to probe for; the absent 8042 bit says the same of a keyboard controller (§5.2.9.3). */
const VGA_NOT_PRESENT = 1 << 2;

const ACCESS_BYTE = 1;
const ACCESS_WORD = 2;
const ACCESS_DWORD = 3;

/** Bytes of the blocks from `eventsPort` on; behind the PM1 control block two ports are empty. */
const PM1_EVT_SIZE = 4;
const PM1_CNT_SIZE = 2;
const GPE0_OFFSET = 8;
const GPE0_SIZE = 2;
const PM_TMR_SIZE = 4;
/** Of the sleep control, the sleep status and the reset register, which are one. */
const SLEEP_RESET_SIZE = 1;

export interface FadtParameters {
  readonly dsdt: number;
  readonly facs: number;
  /** Sleep control, sleep status and reset register, one byte. */
  readonly sleepResetPort: number;
  readonly pmTimerPort: number;
  /** PM1 event block, behind it PM1 control and general-purpose event block 0. */
  readonly eventsPort: number;
  readonly sciGsi: number;
  /** Index of the century in the CMOS. */
  readonly cmosCentury: number;
}

/** Written to the reset register to reset the machine. */
const RESET_VALUE_RESET = 1;

export function writeFadt(area: TableArea, start: number, parameters: FadtParameters): void {
  startTable(area, start, 'FACP', FADT_REVISION);
  const { bytes, view } = area;
  const pm1Event = parameters.eventsPort;
  const pm1Control = pm1Event + PM1_EVT_SIZE;
  const gpe0 = pm1Event + GPE0_OFFSET;
  view.setUint32(start + FIRMWARE_CTRL, parameters.facs, true);
  view.setUint16(start + SCI_INT, parameters.sciGsi, true);
  view.setUint32(start + PM1A_EVT_BLK, pm1Event, true);
  view.setUint32(start + PM1A_CNT_BLK, pm1Control, true);
  view.setUint32(start + PM_TMR_BLK, parameters.pmTimerPort, true);
  view.setUint32(start + GPE0_BLK, gpe0, true);
  view.setUint8(start + PM1_EVT_LEN, PM1_EVT_SIZE);
  view.setUint8(start + PM1_CNT_LEN, PM1_CNT_SIZE);
  view.setUint8(start + PM_TMR_LEN, PM_TMR_SIZE);
  view.setUint8(start + GPE0_BLK_LEN, GPE0_SIZE);
  view.setUint16(start + P_LVL2_LAT, NO_C2, true);
  view.setUint16(start + P_LVL3_LAT, NO_C3, true);
  view.setUint8(start + CENTURY, parameters.cmosCentury);
  view.setUint16(start + IAPC_BOOT_ARCH, VGA_NOT_PRESENT, true);
  view.setUint32(
    start + FLAGS,
    WBINVD | PROC_C1 | PWR_BUTTON | SLP_BUTTON | RESET_REG_SUP | TMR_VAL_EXT,
    true,
  );
  ioRegister(view, start + RESET_REG, parameters.sleepResetPort, 8 * SLEEP_RESET_SIZE, ACCESS_BYTE);
  view.setUint8(start + RESET_VALUE, RESET_VALUE_RESET);
  view.setUint8(start + MINOR_REVISION, FADT_MINOR_REVISION);
  setU64(view, start + X_DSDT, parameters.dsdt);
  ioRegister(view, start + X_PM1A_EVT_BLK, pm1Event, 8 * PM1_EVT_SIZE, ACCESS_WORD);
  ioRegister(view, start + X_PM1A_CNT_BLK, pm1Control, 8 * PM1_CNT_SIZE, ACCESS_WORD);
  ioRegister(view, start + X_PM_TMR_BLK, parameters.pmTimerPort, 8 * PM_TMR_SIZE, ACCESS_DWORD);
  ioRegister(view, start + X_GPE0_BLK, gpe0, 8 * GPE0_SIZE, ACCESS_BYTE);
  ioRegister(view, start + SLEEP_CONTROL_REG, parameters.sleepResetPort, 8 * SLEEP_RESET_SIZE, ACCESS_BYTE);
  ioRegister(view, start + SLEEP_STATUS_REG, parameters.sleepResetPort, 8 * SLEEP_RESET_SIZE, ACCESS_BYTE);
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
