/** Limits: of integer types, ports, paths, descriptors, timers, buses and files. */

// Largest values of the reference's integer types.
export const U8 = 255;
export const U16 = 65_535;
export const U32 = 4_294_967_295;
export const U64 = 18_446_744_073_709_551_615n;
/** Of TCP and UDP. */
export const MAX_PORT = U16;
/** Bytes of a UNIX socket's path: what sun_path has room for (unix(7)). */
export const MAX_SOCKET_PATH = 107;
/** Device numbers of a bus (PCI 3.0 §3.2.2.3.2). */
export const PCI_SLOTS = 32;
/** Of a descriptor: an int. */
export const MAX_FD = 2_147_483_647;
/** What a timer can wait for, 24 days: one that is given more comes at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1;
/** Bytes of a configuration, or of another file that is read whole. */
export const MAX_SMALL_FILE = 1 << 20;
