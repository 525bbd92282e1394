/** Model-specific registers of every vCPU at boot. */
import { setU64 } from '../bytes.ts';

const MSR_ENTRY_SIZE = 16;

/** `[index, value]`. Names are the SDM's (vol. 4 table 2-2) and the APM's. */
const BOOT_MSRS: readonly (readonly [number, number])[] = [
  [0x174, 0], // IA32_SYSENTER_CS
  [0x175, 0], // IA32_SYSENTER_ESP
  [0x176, 0], // IA32_SYSENTER_EIP
  [0xc000_0081, 0], // IA32_STAR
  [0xc000_0083, 0], // IA32_CSTAR
  [0xc000_0102, 0], // IA32_KERNEL_GS_BASE
  [0xc000_0084, 0], // IA32_FMASK
  [0xc000_0082, 0], // IA32_LSTAR
  [0x10, 0], // IA32_TIME_STAMP_COUNTER
  [0x1a0, 1], // IA32_MISC_ENABLE: fast strings
  [0x2ff, (1 << 11) | 6], // IA32_MTRR_DEF_TYPE: enabled, write-back
];

/** Packed `struct kvm_msr_entry`. */
export function buildMsrs(): Uint8Array {
  const bytes = new Uint8Array(BOOT_MSRS.length * MSR_ENTRY_SIZE);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [index, value] of BOOT_MSRS) {
    view.setUint32(at, index, true);
    setU64(view, at + 8, value);
    at += MSR_ENTRY_SIZE;
  }
  return bytes;
}
