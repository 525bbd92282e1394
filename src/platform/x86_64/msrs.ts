/** Model-specific registers of every vCPU at boot. */
import { bytesOfWords } from '../bytes.ts';

/**
 * `struct kvm_msr_entry` in 32-bit words: index, reserved, value (low, high). Names are the SDM's (vol. 4 table 2-2)
 * and the APM's.
 */
// biome-ignore format: one entry a line
const BOOT_MSRS: readonly number[] = [
  0x174, 0, 0, 0, // IA32_SYSENTER_CS
  0x175, 0, 0, 0, // IA32_SYSENTER_ESP
  0x176, 0, 0, 0, // IA32_SYSENTER_EIP
  0xc000_0081, 0, 0, 0, // IA32_STAR
  0xc000_0083, 0, 0, 0, // IA32_CSTAR
  0xc000_0102, 0, 0, 0, // IA32_KERNEL_GS_BASE
  0xc000_0084, 0, 0, 0, // IA32_FMASK
  0xc000_0082, 0, 0, 0, // IA32_LSTAR
  0x10, 0, 0, 0, // IA32_TIME_STAMP_COUNTER
  0x1a0, 0, 1, 0, // IA32_MISC_ENABLE: fast strings
  0x2ff, 0, (1 << 11) | 6, 0, // IA32_MTRR_DEF_TYPE: enabled, write-back
];

/** Packed `struct kvm_msr_entry`. */
export function buildMsrs(): Uint8Array {
  return bytesOfWords(BOOT_MSRS);
}
