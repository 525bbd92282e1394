/**
 * The registers that a debugger sees: their description for it ("Debugging with GDB", G.5.3 "i386 Features"), and where
 * each is in the hypervisor's structures (Linux: arch/x86/include/uapi/asm/kvm.h).
 */
import type { RegisterSet } from '../../../native.ts';

interface Register {
  readonly name: string;
  readonly type: string;
  /** Bytes that the debugger sees. */
  readonly size: number;
  readonly set: RegisterSet;
  readonly offset: number;
  /** Bytes that it has there; the rest is zero. */
  readonly width: number;
  readonly group?: string;
}

interface Feature {
  readonly name: string;
  readonly registers: readonly Register[];
}

/** kvm_regs, in its order. */
const GENERAL = [
  ...['rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rsp', 'rbp'],
  ...['r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15', 'rip', 'eflags'],
];
/** In the debugger's order. */
const GENERAL_SHOWN = [
  ...['rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rbp', 'rsp'],
  ...['r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15'],
];
/** kvm_sregs begins with these kvm_segment. */
const SEGMENTS = ['cs', 'ds', 'es', 'fs', 'gs', 'ss'];
const SEGMENTS_SHOWN = ['cs', 'ss', 'ds', 'es', 'fs', 'gs'];
const SEGMENT_BYTES = 24;
const SELECTOR_OFFSET = 12;
const CONTROL = ['cr0', 'cr2', 'cr3', 'cr4', 'cr8', 'efer'];
const CONTROL_OFFSET = 224;
/** AVX's part of the XSAVE area in the standard format (SDM vol. 1 §13.4.3). */
const AVX_OFFSET = 576;
/** The XSAVE area (SDM vol. 1 §13.4.1 and §13.4.2). */
const XSAVE = {
  fcw: 0,
  fsw: 2,
  ftwx: 4,
  opcode: 6,
  ip: 8,
  dp: 16,
  mxcsr: 24,
  st: 32,
  xmm: 160,
  ymmh: AVX_OFFSET,
};
const FPU_CONTROL: readonly (readonly [name: string, offset: number, width: number])[] = [
  ['fctrl', XSAVE.fcw, 2],
  ['fstat', XSAVE.fsw, 2],
  ['ftag', XSAVE.ftwx, 1],
  ['fiseg', XSAVE.ip + 4, 2],
  ['fioff', XSAVE.ip, 4],
  ['foseg', XSAVE.dp + 4, 2],
  ['fooff', XSAVE.dp, 4],
  ['fop', XSAVE.opcode, 2],
];
const FPU_REGISTERS = 8;
const XMM_REGISTERS = 16;
const VECTOR_BYTES = 16;

function general(name: string, type: string, size = 8): Register {
  return { name, type, size, set: 'general', offset: GENERAL.indexOf(name) * 8, width: size };
}

function special(name: string, size: number, offset: number, width: number): Register {
  return { name, type: size === 4 ? 'int32' : 'int64', size, set: 'special', offset, width };
}

function segmentOffset(name: string): number {
  return SEGMENTS.indexOf(name) * SEGMENT_BYTES;
}

const features: readonly Feature[] = [
  {
    name: 'org.gnu.gdb.i386.core',
    registers: [
      ...GENERAL_SHOWN.map((name) => general(name, name === 'rbp' || name === 'rsp' ? 'data_ptr' : 'int64')),
      general('rip', 'code_ptr'),
      general('eflags', 'i386_eflags', 4),
      ...SEGMENTS_SHOWN.map((name) => special(name, 4, segmentOffset(name) + SELECTOR_OFFSET, 2)),
      ...Array.from(
        { length: FPU_REGISTERS },
        (_, i): Register => ({
          name: `st${i}`,
          type: 'i387_ext',
          size: 10,
          set: 'vector',
          offset: XSAVE.st + i * VECTOR_BYTES,
          width: 10,
        }),
      ),
      ...FPU_CONTROL.map(
        ([name, offset, width]): Register => ({
          name,
          type: 'int',
          size: 4,
          set: 'vector',
          offset,
          width,
          group: 'float',
        }),
      ),
    ],
  },
  {
    name: 'org.gnu.gdb.i386.sse',
    registers: [
      ...Array.from(
        { length: XMM_REGISTERS },
        (_, i): Register => ({
          name: `xmm${i}`,
          type: 'vec128',
          size: VECTOR_BYTES,
          set: 'vector',
          offset: XSAVE.xmm + i * VECTOR_BYTES,
          width: VECTOR_BYTES,
        }),
      ),
      {
        name: 'mxcsr',
        type: 'i386_mxcsr',
        size: 4,
        set: 'vector',
        offset: XSAVE.mxcsr,
        width: 4,
        group: 'vector',
      },
    ],
  },
  {
    name: 'org.gnu.gdb.i386.avx',
    registers: Array.from(
      { length: XMM_REGISTERS },
      (_, i): Register => ({
        name: `ymm${i}h`,
        type: 'uint128',
        size: VECTOR_BYTES,
        set: 'vector',
        offset: XSAVE.ymmh + i * VECTOR_BYTES,
        width: VECTOR_BYTES,
      }),
    ),
  },
  {
    name: 'org.gnu.gdb.i386.segments',
    registers: ['fs', 'gs'].map((name) => special(`${name}_base`, 8, segmentOffset(name), 8)),
  },
  {
    name: 'org.tsvmm.x86.control',
    registers: CONTROL.map((name, i) => special(name, 8, CONTROL_OFFSET + i * 8, 8)),
  },
];

/** All of them; the debugger numbers them so. */
export const registers: readonly Register[] = features.flatMap((feature) => feature.registers);

/** The sets that registers are in. */
export const registerSets: readonly RegisterSet[] = ['general', 'special', 'vector'];

export type RegisterBytes = Readonly<Record<RegisterSet, Uint8Array>>;

/** Of the debugger's size. */
export function readRegister({ name, size, set, offset, width }: Register, all: RegisterBytes): Uint8Array {
  const value = new Uint8Array(size);
  value.set(all[set].subarray(offset, offset + width));
  return name === 'ftag' ? wideTags(value) : value;
}

/** @param special the set that it is in */
export function controlRegister(name: string, special: Uint8Array): bigint {
  const offset = CONTROL_OFFSET + CONTROL.indexOf(name) * 8;
  return new DataView(special.buffer, special.byteOffset).getBigUint64(offset, true);
}

/** @param value of the debugger's size */
export function writeRegister(
  { name, set, offset, width }: Register,
  all: RegisterBytes,
  value: Uint8Array,
): void {
  all[set].set((name === 'ftag' ? narrowTags(value) : value).subarray(0, width), offset);
}

// The debugger knows two bits for each x87 register, 3 for an empty one; the processor stores one bit, 0 for an empty
// one (SDM vol. 1 §10.5.1.1). That a value is zero or special is not told.

function wideTags(narrow: Uint8Array): Uint8Array {
  let tags = 0;
  for (let i = 0; i < FPU_REGISTERS; i++) if (((narrow[0] ?? 0) & (1 << i)) === 0) tags |= 3 << (i * 2);
  return new Uint8Array([tags & 0xff, tags >> 8, 0, 0]);
}

function narrowTags(wide: Uint8Array): Uint8Array {
  const tags = (wide[0] ?? 0) | ((wide[1] ?? 0) << 8);
  let narrow = 0;
  for (let i = 0; i < FPU_REGISTERS; i++) if (((tags >> (i * 2)) & 3) !== 3) narrow |= 1 << i;
  return new Uint8Array([narrow]);
}

/** SDM vol. 1 §3.4.3; by bit. */
const EFLAGS = [
  ...['CF', '', 'PF', '', 'AF', '', 'ZF', 'SF', 'TF', 'IF', 'DF', 'OF', '', '', 'NT', ''],
  ...['RF', 'VM', 'AC', 'VIF', 'VIP', 'ID'],
];
/** SDM vol. 1 §10.2.3; by bit. */
const MXCSR = [
  ...['IE', 'DE', 'ZE', 'OE', 'UE', 'PE', 'DAZ', 'IM', 'DM', 'ZM', 'OM', 'UM', 'PM', '', '', 'FZ'],
];

/** target.xml ("Debugging with GDB", appendix G "Target Descriptions"). */
export function targetDescription(): string {
  return [
    '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target version="1.0">',
    '<architecture>i386:x86-64</architecture>',
    ...features.map(describeFeature),
    '</target>',
  ].join('');
}

function describeFeature({ name, registers: members }: Feature): string {
  const list = members.map((register) => {
    const group = register.group === undefined ? '' : ` group="${register.group}"`;
    return `<reg name="${register.name}" bitsize="${register.size * 8}" type="${register.type}"${group}/>`;
  });
  return `<feature name="${name}">${types(name)}${list.join('')}</feature>`;
}

function types(feature: string): string {
  if (feature === 'org.gnu.gdb.i386.core') {
    return `<flags id="i386_eflags" size="4">${flagFields(EFLAGS)}</flags>`;
  }
  if (feature !== 'org.gnu.gdb.i386.sse') return '';
  const vectors: readonly (readonly [id: string, type: string, count: number])[] = [
    ['v4f', 'ieee_single', 4],
    ['v2d', 'ieee_double', 2],
    ['v16i8', 'int8', 16],
    ['v8i16', 'int16', 8],
    ['v4i32', 'int32', 4],
    ['v2i64', 'int64', 2],
  ];
  const fields: readonly (readonly [name: string, type: string])[] = [
    ['v4_float', 'v4f'],
    ['v2_double', 'v2d'],
    ['v16_int8', 'v16i8'],
    ['v8_int16', 'v8i16'],
    ['v4_int32', 'v4i32'],
    ['v2_int64', 'v2i64'],
    ['uint128', 'uint128'],
  ];
  return [
    ...vectors.map(([id, type, count]) => `<vector id="${id}" type="${type}" count="${count}"/>`),
    '<union id="vec128">',
    ...fields.map(([name, type]) => `<field name="${name}" type="${type}"/>`),
    '</union>',
    `<flags id="i386_mxcsr" size="4">${flagFields(MXCSR)}</flags>`,
  ].join('');
}

/** A name for each bit, from the lowest; '' for none. */
function flagFields(names: readonly string[]): string {
  return names
    .map((name, bit) => (name === '' ? '' : `<field name="${name}" start="${bit}" end="${bit}"/>`))
    .join('');
}
