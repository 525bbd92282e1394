/**
 * Where tables start in the block of ACPI tables, whatever the machine: only the last two of these differ in length.
 * Tables that some machines have come behind them.
 */
export const XSDT_OFFSET = 64;
export const FADT_OFFSET = 192;
/** At a multiple of 64 (ACPI 6.5 §5.2.10). */
export const FACS_OFFSET = 512;
export const MCFG_OFFSET = 576;
/** Behind room for 16 segments in the MCFG. */
export const DSDT_OFFSET = 896;
export const MADT_OFFSET = 4608;
/** Where a table behind those starts is a multiple of that. */
export const TABLE_ALIGNMENT = 16;
