/**
 * CPUID policy: what KVM can give (KVM_GET_SUPPORTED_CPUID), turned into what each vCPU of this machine sees.
 * Leaf and bit names are the SDM's (vol. 2 CPUID) and the APM's (vol. 3 appendix E).
 */
import type { HostInfo } from '../../native.ts';
import { type Topology, threadsPerPackage } from './apicId.ts';

export interface CpuidPolicy {
  readonly physBits: number;
  /** Offer VMX or SVM. */
  readonly nested: boolean;
  readonly topology: Topology;
}

/**
 * `struct kvm_cpuid_entry2` in signed 32-bit words, which are the engine's own small integers: function, index, flags,
 * four registers, padding.
 */
const WORDS = 10;
const INDEX = 1;
const FLAGS = 2;
const EAX = 3;
const EBX = 4;
const ECX = 5;
const EDX = 6;
const SIGNIFICANT_INDEX = 1;

// Leaf 1.
const VMX = 1 << 5;
const TSC_DEADLINE = 1 << 24;
const HYPERVISOR = 1 << 31;
const MTRR = 1 << 12;
const HTT = 1 << 28;
// Leaves 7 and 0xD. AMX state is large, and KVM wants a process to ask for it.
const AMX_BF16 = 1 << 22;
const AMX_TILE = 1 << 24;
const AMX_INT8 = 1 << 25;
const AMX_FP16 = 1 << 21;
const XTILECFG = 1 << 17;
const XTILEDATA = 1 << 18;
const XTILECFG_INDEX = 17;
const XTILEDATA_INDEX = 18;
// Leaf 0x40000001: MSI messages carry 15 bits of APIC id.
const MSI_EXT_DEST_ID = 1 << 15;
// Leaf 0x80000001.
const SVM = 1 << 2;
// Leaves 4 and 0x8000001D.
const CACHE_TYPE = 0x1f;

/** The most entries that are added to KVM's. */
const ADDED_ENTRIES = 8;

const LEAF_TOPOLOGY = 0xb;
const LEAF_TOPOLOGY_V2 = 0x1f;
const HYPERVISOR_LEAVES = 0x4000_0000;
const LEAF_TIMING = 0x4000_0010;
/** The bit that extended leaves have; in these signed words it makes them negative. */
const EXTENDED = 1 << 31;
/** Local APIC timer frequency that the timing leaf tells, in kHz: KVM's bus runs at 1 GHz. */
const APIC_BUS_KHZ = 1_000_000;

const LEVEL_SMT = 1;
const LEVEL_CORE = 2;
const LEVEL_DIE = 5;

const BRAND_FALLBACK = 'tsvmm virtual processor';

/** The entries of one machine, and where in them vCPUs differ. */
interface Table {
  readonly words: Int32Array;
  /** Words in use. */
  end: number;
  readonly policy: CpuidPolicy;
  readonly tscKhz: number;
  isAmd: boolean;
  maxBasic: number;
  /** Word positions of the whole APIC id. */
  readonly apicIdAt: number[];
  /** Word position of the register that has it in its top byte, and of leaf 0x8000001E; -1 if absent. */
  initialApicIdAt: number;
  extendedApicAt: number;
}

/** Packed `struct kvm_cpuid_entry2` for each of `apicIds`. */
export function buildCpuid(host: HostInfo, policy: CpuidPolicy, apicIds: readonly number[]): Uint8Array[] {
  const table = copySupported(host, policy);
  adjustEntries(table);
  addTopologyLeaf(table, LEAF_TOPOLOGY, false);
  addTopologyLeaf(table, LEAF_TOPOLOGY_V2, true);
  if (host.tscKhz > 0) {
    addEntry(table, LEAF_TIMING, 0, 0, host.tscKhz, APIC_BUS_KHZ, 0);
  }
  const result: Uint8Array[] = [];
  for (let i = 0; i < apicIds.length; i++) {
    result.push(entriesFor(table, apicIds[i] as number));
  }
  return result;
}

function copySupported(host: HostInfo, policy: CpuidPolicy): Table {
  const supported = host.supportedCpuid;
  const end = Math.floor(supported.length / (4 * WORDS)) * WORDS;
  const words = new Int32Array(end + ADDED_ENTRIES * WORDS);
  new Uint8Array(words.buffer).set(new Uint8Array(supported.buffer, supported.byteOffset, end * 4));
  return {
    words,
    end,
    policy,
    tscKhz: host.tscKhz,
    isAmd: false,
    maxBasic: 0,
    apicIdAt: [],
    initialApicIdAt: -1,
    extendedApicAt: -1,
  };
}

/** Leaves are told apart by small numbers, for which a cold interpreter has jump tables. KVM lists leaf 0 first. */
function adjustEntries(table: Table): void {
  const { words } = table;
  for (let at = 0; at < table.end; at += WORDS) {
    const leaf = word(words, at);
    if (leaf < 0) {
      adjustExtended(table, leaf & ~EXTENDED, at);
    } else if (leaf >= HYPERVISOR_LEAVES) {
      adjustHypervisor(table, leaf, at);
    } else if (leaf === LEAF_TOPOLOGY || leaf === LEAF_TOPOLOGY_V2) {
      // KVM's topology leaves describe the host, or nothing: ours come instead.
      table.end -= WORDS;
      words.copyWithin(at, table.end, table.end + WORDS);
      at -= WORDS;
    } else {
      adjustBasic(table, leaf, at);
    }
  }
}

function adjustBasic(table: Table, leaf: number, at: number): void {
  const { words } = table;
  switch (leaf) {
    case 0x0:
      readVendor(table, at);
      break;
    case 0x1:
      adjustFeatures(table, at);
      break;
    case 0x4:
      adjustIntelCache(table, at);
      break;
    case 0x7:
      if (words[at + INDEX] === 0) {
        clear(words, at + EDX, AMX_BF16 | AMX_TILE | AMX_INT8);
      } else if (words[at + INDEX] === 1) {
        clear(words, at + EAX, AMX_FP16);
      }
      break;
    case 0xd:
      if (words[at + INDEX] === 0) {
        clear(words, at + EAX, XTILECFG | XTILEDATA);
      } else if (words[at + INDEX] === XTILECFG_INDEX || words[at + INDEX] === XTILEDATA_INDEX) {
        words.fill(0, at + EAX, at + EDX + 1);
      }
      break;
    case 0x1d:
    case 0x1e:
      // What AMX's tiles are like.
      words.fill(0, at + EAX, at + EDX + 1);
      break;
    default:
      break;
  }
}

/** The first leaf, which says how many there are, and KVM's features. */
function adjustHypervisor({ words, tscKhz }: Table, leaf: number, at: number): void {
  if (leaf === HYPERVISOR_LEAVES && tscKhz > 0) {
    words[at + EAX] = Math.max(word(words, at + EAX), LEAF_TIMING);
  } else if (leaf === HYPERVISOR_LEAVES + 1) {
    set(words, at + EAX, MSI_EXT_DEST_ID);
  }
}

/** `leaf` counts from 0x80000000. */
function adjustExtended(table: Table, leaf: number, at: number): void {
  const { words, policy } = table;
  switch (leaf) {
    case 0x1:
      if (!policy.nested) {
        clear(words, at + ECX, SVM);
      }
      break;
    case 0x2:
      fillBrand(table, at);
      break;
    case 0x8:
      adjustAddressSizes(table, at);
      break;
    case 0x1d:
      clampSharing(words, at + EAX, policy.topology);
      break;
    case 0x1e:
      table.extendedApicAt = table.isAmd ? at : -1;
      break;
    default:
      break;
  }
}

function readVendor(table: Table, at: number): void {
  table.maxBasic = word(table.words, at + EAX);
  // The last four letters of "AuthenticAMD" and "HygonGenuine".
  const tail = table.words[at + ECX];
  table.isAmd = tail === 0x444d_4163 || tail === 0x656e_6975;
}

function adjustFeatures(table: Table, at: number): void {
  const { words } = table;
  const { nested, topology } = table.policy;
  const logical = 1 << topology.packageShift;
  set(words, at + ECX, HYPERVISOR | TSC_DEADLINE);
  set(words, at + EDX, logical > 1 ? MTRR | HTT : MTRR);
  if (!nested) {
    clear(words, at + ECX, VMX);
  }
  words[at + EBX] = (word(words, at + EBX) & 0x0000_ffff) | (Math.min(logical, 255) << 16);
  table.initialApicIdAt = at + EBX;
}

/** Deterministic cache parameters: sharing, and in bits 31 to 26 how many cores a package has ids for. */
function adjustIntelCache(table: Table, at: number): void {
  const { words } = table;
  const { topology } = table.policy;
  if ((word(words, at + EAX) & CACHE_TYPE) === 0) {
    return;
  }
  clampSharing(words, at + EAX, topology);
  const cores = Math.min(1 << (topology.packageShift - topology.coreShift), 64);
  words[at + EAX] = (word(words, at + EAX) & 0x03ff_ffff) | ((cores - 1) << 26);
}

function adjustAddressSizes(table: Table, at: number): void {
  const { words } = table;
  const { physBits, topology } = table.policy;
  const sizes = word(words, at + EAX);
  // Bits 23 to 16, where KVM fills them, tell how many of them a guest can use.
  const usable = (sizes >>> 16) & 0xff;
  words[at + EAX] = (sizes & 0xff00_ff00) | physBits | (Math.min(usable, physBits) << 16);
  if (table.isAmd) {
    const threads = Math.min(threadsPerPackage(topology), 256) - 1;
    words[at + ECX] = (word(words, at + ECX) & ~0xf0ff) | threads | (topology.packageShift << 12);
  }
}

/** KVM leaves the brand empty. It takes three leaves, which KVM lists one after the other. */
function fillBrand({ words }: Table, at: number): void {
  if (words[at + EAX] !== 0) {
    return;
  }
  const text = new Uint8Array(words.buffer);
  for (let i = 0; i < BRAND_FALLBACK.length; i++) {
    const entry = at + (i >> 4) * WORDS;
    text[(entry + EAX) * 4 + (i & 15)] = BRAND_FALLBACK.charCodeAt(i);
  }
}

/** Extended topology enumeration; level numbers, and a level of type 0 after the last, as both vendors define them. */
function addTopologyLeaf(table: Table, leaf: number, withDies: boolean): void {
  if (leaf > table.maxBasic) {
    return;
  }
  const { topology } = table.policy;
  const all = threadsPerPackage(topology);
  addLevel(table, leaf, 0, LEVEL_SMT, topology.coreShift, topology.threadsPerCore);
  if (withDies && topology.diesPerPackage > 1) {
    const perDie = topology.threadsPerCore * topology.coresPerDie;
    addLevel(table, leaf, 1, LEVEL_CORE, topology.dieShift, perDie);
    addLevel(table, leaf, 2, LEVEL_DIE, topology.packageShift, all);
    addLevel(table, leaf, 3, 0, 0, 0);
  } else {
    addLevel(table, leaf, 1, LEVEL_CORE, topology.packageShift, all);
    addLevel(table, leaf, 2, 0, 0, 0);
  }
}

function addLevel(
  table: Table,
  leaf: number,
  index: number,
  type: number,
  shift: number,
  threads: number,
): void {
  table.apicIdAt.push(table.end + EDX);
  addEntry(table, leaf, index, SIGNIFICANT_INDEX, shift, threads, (type << 8) | index);
}

function addEntry(
  table: Table,
  leaf: number,
  index: number,
  flags: number,
  eax: number,
  ebx: number,
  ecx: number,
): void {
  const { words, end } = table;
  words[end] = leaf;
  words[end + INDEX] = index;
  words[end + FLAGS] = flags;
  words[end + EAX] = eax;
  words[end + EBX] = ebx;
  words[end + ECX] = ecx;
  words[end + EDX] = 0;
  table.end = end + WORDS;
}

function entriesFor(table: Table, apicId: number): Uint8Array {
  const { apicIdAt, initialApicIdAt } = table;
  // Not the array's own slice(), whose first call takes longer than all of this.
  const words = new Int32Array(table.words.buffer.slice(0, table.end * 4));
  for (let i = 0; i < apicIdAt.length; i++) {
    words[apicIdAt[i] as number] = apicId;
  }
  if (initialApicIdAt >= 0) {
    words[initialApicIdAt] = (word(words, initialApicIdAt) & 0x00ff_ffff) | (apicId << 24);
  }
  if (table.extendedApicAt >= 0) {
    setExtendedApic(words, table.extendedApicAt, apicId, table.policy.topology);
  }
  return new Uint8Array(words.buffer);
}

/** Leaf 0x8000001E: extended APIC id, compute unit and node identifiers. */
function setExtendedApic(words: Int32Array, at: number, apicId: number, topology: Topology): void {
  const inPackage = apicId & ((1 << topology.packageShift) - 1);
  const core = inPackage >> topology.coreShift;
  const die = inPackage >> topology.dieShift;
  const node = (apicId >> topology.packageShift) * topology.diesPerPackage + die;
  words[at + EAX] = apicId;
  words[at + EBX] = (core & 0xff) | ((topology.threadsPerCore - 1) << 8);
  words[at + ECX] = (node & 0xff) | ((topology.diesPerPackage - 1) << 8);
  words[at + EDX] = 0;
}

/** Bits 25 to 14 of a cache leaf say, less one, how many logical processors share it: at most those of one die. */
function clampSharing(words: Int32Array, at: number, topology: Topology): void {
  const value = word(words, at);
  const sharing = Math.min((value >>> 14) & 0xfff, (1 << topology.dieShift) - 1);
  words[at] = (value & ~(0xfff << 14)) | (sharing << 14);
}

function set(words: Int32Array, at: number, bits: number): void {
  words[at] = word(words, at) | bits;
}

function clear(words: Int32Array, at: number, bits: number): void {
  words[at] = word(words, at) & ~bits;
}

/** Positions come from the table's own length, so they are inside it. */
function word(words: Int32Array, at: number): number {
  return words[at] as number;
}
