/** Fields of the header that all tables share (ACPI 6.5 §5.2.6): numbers alone, as every start loads them. */
export const SDT_HEADER_SIZE = 36;
export const TABLE_LENGTH = 4;
/** Makes the sum of all bytes of the table 0 modulo 256. */
export const TABLE_CHECKSUM = 9;
