/** The error of machines that cannot be planned. Messages are one human-readable sentence; `code` is for programs. */

/** Why a machine cannot be planned. */
export type PlatformErrorCode =
  /** Guest memory is too small, misaligned or does not fit the physical address space. */
  | 'ERR_TSVMM_MEMORY'
  /** More vCPUs than the host takes, or a topology that does not add up. */
  | 'ERR_TSVMM_CPUS'
  /** The payload is of no known kind. */
  | 'ERR_TSVMM_KERNEL_FORMAT'
  /** The payload is of a known kind, but its headers lie or the file ends early. */
  | 'ERR_TSVMM_KERNEL_INVALID'
  /** The payload, or the initramfs beside it, does not fit guest memory. */
  | 'ERR_TSVMM_KERNEL_FIT'
  | 'ERR_TSVMM_COMMAND_LINE'
  /** Two devices want one slot, or there is none left. */
  | 'ERR_TSVMM_PCI_SLOT'
  /** No room for a device's registers. */
  | 'ERR_TSVMM_PCI_BAR'
  | 'ERR_TSVMM_SMBIOS';

export class PlatformError extends Error {
  readonly code: PlatformErrorCode;

  /** @internal */
  constructor(code: PlatformErrorCode, message: string) {
    super(message);
    this.name = 'PlatformError';
    this.code = code;
  }
}
