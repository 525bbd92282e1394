/** Finds out what a payload is and how it is loaded and entered. Its bytes stay in the file: the core reads them. */
import { Descriptor } from '../../boundary/cbor.ts';
import type { LoadItem } from '../../native.ts';
import { PlatformError } from '../platformError.ts';
import { isBzImage, parseBzImage } from './bzImage.ts';
import { isElf, parsePvhElf } from './elf.ts';
import type { ImageFile } from './imageFile.ts';
import { HIGH_RAM_START, inRam, type MemoryMap } from './memoryMap.ts';

/** COMMAND_LINE_SIZE of Linux on x86, less the NUL. A bzImage says so itself. */
const LINUX_COMMAND_LINE_MAX = 2047;

interface PayloadCommon {
  /** 32-bit entry point. */
  readonly entry: number;
  /** Everything else that the payload takes of memory is zero, as fresh memory is. */
  readonly load: readonly LoadItem[];
  /** First address below 4 GiB that the payload leaves alone. */
  readonly end: number;
  /** Highest address that the initramfs may occupy. */
  readonly initramfsMax: number;
  /** Longest command line in bytes, without the terminating NUL. */
  readonly commandLineMax: number;
  readonly isLinux: boolean;
}

export type Payload = PayloadCommon &
  ({ readonly protocol: 'pvh' } | { readonly protocol: 'linux'; readonly setupHeader: Uint8Array });

/**
 * Reads the headers of the kernel or firmware `image`; `fd` is where the core will read its bytes.
 * @throws PlatformError `ERR_TSVMM_KERNEL_FORMAT`, `ERR_TSVMM_KERNEL_INVALID` or `ERR_TSVMM_KERNEL_FIT`
 */
export function planPayload(image: ImageFile, fd: number, map: MemoryMap): Payload {
  const payload = isElf(image)
    ? planPvh(image, fd, map)
    : isBzImage(image)
      ? planLinux(image, fd, map)
      : undefined;
  if (payload === undefined) {
    throw new PlatformError('ERR_TSVMM_KERNEL_FORMAT', 'Kernel lacks PVH header');
  }
  return payload;
}

function planPvh(image: ImageFile, fd: number, map: MemoryMap): Payload | undefined {
  const elf = parsePvhElf(image);
  if (elf === undefined) {
    return undefined;
  }
  const load: LoadItem[] = [];
  let end = HIGH_RAM_START;
  for (const segment of elf.segments) {
    checkFits(map, segment.address, segment.memorySize);
    if (segment.fileSize > 0) {
      load.push({
        address: segment.address,
        fd: new Descriptor(fd),
        offset: segment.fileOffset,
        length: segment.fileSize,
      });
    }
    if (segment.address < map.ramBelow4G) {
      end = Math.max(end, segment.address + segment.memorySize);
    }
  }
  const { MAX_SAFE_INTEGER } = Number;
  return {
    protocol: 'pvh',
    entry: elf.entry,
    load,
    end,
    initramfsMax: MAX_SAFE_INTEGER,
    commandLineMax: elf.isLinux ? LINUX_COMMAND_LINE_MAX : MAX_SAFE_INTEGER,
    isLinux: elf.isLinux,
  };
}

function planLinux(image: ImageFile, fd: number, map: MemoryMap): Payload {
  const kernel = parseBzImage(image);
  checkFits(map, kernel.codeAddress, kernel.end - kernel.codeAddress);
  return {
    protocol: 'linux',
    setupHeader: kernel.setupHeader,
    entry: kernel.codeAddress,
    load: [
      {
        address: kernel.codeAddress,
        fd: new Descriptor(fd),
        offset: kernel.codeOffset,
        length: kernel.codeSize,
      },
    ],
    end: kernel.end,
    initramfsMax: kernel.initramfsMax,
    commandLineMax: kernel.commandLineMax,
    isLinux: true,
  };
}

/** Below 1 MiB lie boot data and tables that a payload must not overwrite. */
function checkFits(map: MemoryMap, address: number, size: number): void {
  if (address < HIGH_RAM_START || !inRam(map, address, size)) {
    throw new PlatformError(
      'ERR_TSVMM_KERNEL_FIT',
      `The kernel needs ${size} bytes at address 0x${address.toString(16)}, where this guest has no memory for it`,
    );
  }
}
