/**
 * For a process that waits for its VM: does once what a start computes, with a machine that is never made. The runtime
 * has then linked and initialized what the start is going to run, and what became garbage on the way is collected
 * before the start rather than in it.
 */
import { Descriptor, encode } from '../boundary/cbor.ts';
import { decode } from '../config/decode.ts';
import { type VmConfig, vmConfig } from '../config/vmConfig.ts';
import { bun } from '../host/bun.ts';
import type { BootSpec, HostInfo, NativeAddon } from '../native.ts';
import { planBoot, planMachine } from '../platform/plan.ts';

const LOAD_ADDRESS = 1 << 20;
/** Of a 64-bit ELF file: its header, a program header, and where the rest is put. */
const EHDR_SIZE = 64;
const PHDR_SIZE = 56;
const NOTE = 192;
const CODE = 256;
const CODE_SIZE = 64;

/**
 * What is to be done one after the other, each of it in a millisecond or two; a process that is asked for something
 * meanwhile can leave the rest.
 * @returns functions that throw without KVM
 */
export function rehearsal(native: Pick<NativeAddon, 'hostInfo'>): readonly (() => void)[] {
  let config: VmConfig;
  let host: HostInfo;
  let boot: BootSpec;
  return [
    () => {
      config = decode(vmConfig, { payload: { kernel: '/', cmdline: '' }, console: { mode: 'Off' } });
    },
    () => {
      host = native.hostInfo();
      encode(planMachine(config, host));
    },
    () => {
      boot = plannedBoot(config, host);
    },
    () => void encode(boot),
    () => bun?.gc(true),
  ];
}

/** Does it in a turn of the event loop for each step, for as long as there is time. Nothing happens without KVM. */
export async function rehearseWhile(
  native: Pick<NativeAddon, 'hostInfo' | 'precreateVm'>,
  hasTime: () => boolean,
): Promise<void> {
  try {
    native.precreateVm(false);
    for (const step of rehearsal(native)) {
      await new Promise((resolve) => setImmediate(resolve));
      if (!hasTime()) return;
      step();
    }
  } catch {
    // Reported when the VM is started.
  }
}

function plannedBoot(config: VmConfig, host: HostInfo): BootSpec {
  const kernel = smallKernel();
  const { boot } = planBoot(config, host, {
    kernel: { fd: 0, size: kernel.length },
    readAt: (_, offset, length) => kernel.slice(offset, offset + length),
    devices: { rng: [new Descriptor(0)] },
    serial: { kind: 'null' },
    vmGeneration: new Uint8Array(16),
  });
  return boot;
}

/** An ELF file with a PVH entry (XEN_ELFNOTE_PHYS32_ENTRY) and a segment to load. */
function smallKernel(): Uint8Array {
  const bytes = new Uint8Array(CODE + CODE_SIZE);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, 62, true);
  view.setUint32(32, EHDR_SIZE, true);
  view.setUint16(54, PHDR_SIZE, true);
  view.setUint16(56, 2, true);
  setProgramHeader(view, 0, { type: 4, offset: NOTE, address: 0, size: 24, align: 4 });
  setProgramHeader(view, 1, { type: 1, offset: CODE, address: LOAD_ADDRESS, size: CODE_SIZE, align: 4096 });
  view.setUint32(NOTE, 4, true);
  view.setUint32(NOTE + 4, 8, true);
  view.setUint32(NOTE + 8, 18, true);
  bytes.set([0x58, 0x65, 0x6e, 0], NOTE + 12);
  view.setUint32(NOTE + 16, LOAD_ADDRESS, true);
  return bytes;
}

interface ProgramHeader {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly size: number;
  readonly align: number;
}

function setProgramHeader(view: DataView, index: number, header: ProgramHeader): void {
  const at = EHDR_SIZE + index * PHDR_SIZE;
  view.setUint32(at, header.type, true);
  view.setUint32(at + 8, header.offset, true);
  view.setUint32(at + 24, header.address, true);
  view.setUint32(at + 32, header.size, true);
  view.setUint32(at + 40, header.size, true);
  view.setUint32(at + 48, header.align, true);
}
