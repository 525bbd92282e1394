/** How the processor stops where a debugger wants it to. */

/** `int3` (SDM vol. 2, "INT n/INTO/INT3/INT1"). */
export const BREAKPOINT_INSTRUCTION: Uint8Array = new Uint8Array([0xcc]);
/** DR0 to DR3 (SDM vol. 3 §18.2). */
export const MAX_HARDWARE = 4;
export const WATCH_LENGTHS: readonly number[] = [1, 2, 4, 8];
