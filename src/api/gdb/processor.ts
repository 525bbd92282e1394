/** What a debugger has to know of the guest's architecture. */
export { walkPageTables } from './x86_64/pageTables.ts';
export {
  type RegisterBytes,
  readRegister,
  registerSets,
  registers,
  targetDescription,
  writeRegister,
} from './x86_64/registers.ts';
export { BREAKPOINT_INSTRUCTION, MAX_HARDWARE, WATCH_LENGTHS } from './x86_64/traps.ts';
