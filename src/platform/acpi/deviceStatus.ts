/** How devices that come and go say so in AML. */

/** Device notifications (ACPI 6.5 table 5.165). */
export const DEVICE_CHECK = 1;
export const EJECT_REQUEST = 3;
/** _STA of a device that is there (ACPI 6.5 §6.3.7): present, enabled, shown, working. */
export const PRESENT = 0xf;
