/** Units of bytes, pages and sectors. */
export const KIB = 1024;
export const MIB: number = 1024 * KIB;
export const GIB: number = 1024 * MIB;
export const TIB: number = 1024 * GIB;

/** By the letter of its suffix. */
export const BINARY_UNITS: Readonly<Record<string, number>> = { K: KIB, M: MIB, G: GIB, T: TIB };

/** The smallest page of a guest, and of a host. */
export const PAGE_SIZE: number = 4 * KIB;
/** Of disks, and what their images and boot sectors are made of. */
export const SECTOR_SIZE = 512;
