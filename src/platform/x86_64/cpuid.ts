/**
 * CPUID policy: what KVM can give (KVM_GET_SUPPORTED_CPUID), turned into what each vCPU of this machine sees.
 * Leaf and bit names are the SDM's (vol. 2 CPUID) and the APM's (vol. 3 appendix E).
 */
import type { HostInfo } from '../../native.ts';
import { setAscii } from '../bytes.ts';
import { type Topology, threadsPerPackage } from './apicId.ts';

export interface CpuidPolicy {
  readonly physBits: number;
  /** Offer VMX or SVM. */
  readonly nested: boolean;
  readonly topology: Topology;
}

/** `struct kvm_cpuid_entry2` in 32-bit words: function, index, flags, four registers, padding. */
const WORDS = 10;
const INDEX = 1;
const FLAGS = 2;
const EAX = 3;
const EBX = 4;
const ECX = 5;
const EDX = 6;
const SIGNIFICANT_INDEX = 1;

/** The most entries that `build` adds to KVM's. */
const ADDED_ENTRIES = 8;

const LEAF_TOPOLOGY = 0xb;
const LEAF_TOPOLOGY_V2 = 0x1f;
const LEAF_KVM_FEATURES = 0x4000_0001;
const LEAF_TIMING = 0x4000_0010;
/** Local APIC timer frequency that the timing leaf tells, in kHz: KVM's bus runs at 1 GHz. */
const APIC_BUS_KHZ = 1_000_000;

const LEVEL_SMT = 1;
const LEVEL_CORE = 2;
const LEVEL_DIE = 5;

const BRAND_FALLBACK = 'tsvmm virtual processor';

/** Packed `struct kvm_cpuid_entry2` for each of `apicIds`. */
export function buildCpuid(host: HostInfo, policy: CpuidPolicy, apicIds: readonly number[]): Uint8Array[] {
  const table = new CpuidTable(host.supportedCpuid, policy);
  table.build(host);
  return apicIds.map((apicId) => table.forVcpu(apicId));
}

/** One machine's entries, with what differs between vCPUs kept apart. */
class CpuidTable {
  readonly #words: Uint32Array;
  readonly #policy: CpuidPolicy;
  #count: number;
  #maxBasic = 0;
  #isAmd = false;
  /** Word positions that hold the whole APIC id, and the one that holds it in its top byte. */
  readonly #apicIdAt: number[] = [];
  #initialApicIdAt = -1;
  /** Word position of leaf 0x8000001E. */
  #extendedApicAt = -1;

  constructor(supported: Uint8Array, policy: CpuidPolicy) {
    this.#count = Math.floor(supported.length / (4 * WORDS));
    this.#words = new Uint32Array((this.#count + ADDED_ENTRIES) * WORDS);
    new Uint8Array(this.#words.buffer).set(supported.subarray(0, this.#count * 4 * WORDS));
    this.#policy = policy;
  }

  build(host: HostInfo): void {
    this.#readVendor();
    this.#dropTopologyLeaves();
    for (let at = 0; at < this.#count * WORDS; at += WORDS) {
      this.#adjust(at, host);
    }
    this.#addTopologyLeaf(LEAF_TOPOLOGY, false);
    this.#addTopologyLeaf(LEAF_TOPOLOGY_V2, true);
    if (host.tscKhz > 0) {
      this.#add(LEAF_TIMING, 0, 0, host.tscKhz, APIC_BUS_KHZ, 0, 0);
    }
  }

  forVcpu(apicId: number): Uint8Array {
    const words = this.#words.slice(0, this.#count * WORDS);
    for (const at of this.#apicIdAt) {
      words[at] = apicId;
    }
    if (this.#initialApicIdAt >= 0) {
      words[this.#initialApicIdAt] = (word(words, this.#initialApicIdAt) & 0x00ff_ffff) | (apicId << 24);
    }
    if (this.#extendedApicAt >= 0) {
      this.#setExtendedApic(words, apicId);
    }
    return new Uint8Array(words.buffer);
  }

  #readVendor(): void {
    for (let at = 0; at < this.#count * WORDS; at += WORDS) {
      if (this.#words[at] === 0) {
        this.#maxBasic = word(this.#words, at + EAX);
        // The last four letters of "AuthenticAMD" and "HygonGenuine".
        const tail = this.#words[at + ECX];
        this.#isAmd = tail === 0x444d_4163 || tail === 0x656e_6975;
        return;
      }
    }
  }

  /** KVM's topology leaves describe the host, or nothing; ours come instead. */
  #dropTopologyLeaves(): void {
    const words = this.#words;
    let to = 0;
    for (let at = 0; at < this.#count * WORDS; at += WORDS) {
      const leaf = words[at];
      if (leaf !== LEAF_TOPOLOGY && leaf !== LEAF_TOPOLOGY_V2 && leaf !== LEAF_TIMING) {
        if (to !== at) {
          words.copyWithin(to, at, at + WORDS);
        }
        to += WORDS;
      }
    }
    words.fill(0, to, this.#count * WORDS);
    this.#count = to / WORDS;
  }

  #adjust(at: number, host: HostInfo): void {
    const words = this.#words;
    switch (words[at]) {
      case 0x1:
        this.#adjustFeatures(at);
        break;
      case 0x4:
        this.#adjustIntelCache(at);
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
        } else if (words[at + INDEX] === 17 || words[at + INDEX] === 18) {
          words.fill(0, at + EAX, at + EDX + 1);
        }
        break;
      case 0x1d:
      case 0x1e:
        words.fill(0, at + EAX, at + EDX + 1);
        break;
      case 0x4000_0000:
        if (host.tscKhz > 0) {
          words[at + EAX] = Math.max(word(words, at + EAX), LEAF_TIMING);
        }
        break;
      case LEAF_KVM_FEATURES:
        set(words, at + EAX, MSI_EXT_DEST_ID);
        break;
      case 0x8000_0001:
        if (!this.#policy.nested) {
          clear(words, at + ECX, SVM);
        }
        break;
      case 0x8000_0002:
        this.#fillBrand(at);
        break;
      case 0x8000_0008:
        this.#adjustAddressSizes(at);
        break;
      case 0x8000_001d:
        clampSharing(words, at + EAX, this.#policy.topology);
        break;
      case 0x8000_001e:
        this.#extendedApicAt = this.#isAmd ? at : -1;
        break;
      default:
        break;
    }
  }

  #adjustFeatures(at: number): void {
    const words = this.#words;
    const { nested, topology } = this.#policy;
    const logical = 1 << topology.packageShift;
    set(words, at + ECX, HYPERVISOR | TSC_DEADLINE);
    set(words, at + EDX, MTRR);
    if (!nested) {
      clear(words, at + ECX, VMX);
    }
    if (logical > 1) {
      set(words, at + EDX, HTT);
    }
    words[at + EBX] = (word(words, at + EBX) & 0x0000_ffff) | (Math.min(logical, 255) << 16);
    this.#initialApicIdAt = at + EBX;
  }

  /** Deterministic cache parameters: sharing, and in bits 31 to 26 how many cores a package has ids for. */
  #adjustIntelCache(at: number): void {
    const words = this.#words;
    const { topology } = this.#policy;
    if ((word(words, at + EAX) & CACHE_TYPE) === 0) {
      return;
    }
    clampSharing(words, at + EAX, topology);
    const cores = Math.min(1 << (topology.packageShift - topology.coreShift), 64);
    words[at + EAX] = (word(words, at + EAX) & 0x03ff_ffff) | ((cores - 1) << 26);
  }

  #adjustAddressSizes(at: number): void {
    const words = this.#words;
    const { physBits, topology } = this.#policy;
    const sizes = word(words, at + EAX);
    // Bits 23 to 16, where KVM fills them, tell how many of them a guest can use.
    const usable = (sizes >>> 16) & 0xff;
    words[at + EAX] = (sizes & 0xff00_ff00) | physBits | (Math.min(usable, physBits) << 16);
    if (this.#isAmd) {
      const threads = Math.min(threadsPerPackage(topology), 256) - 1;
      words[at + ECX] = (word(words, at + ECX) & ~0xf0ff) | threads | (topology.packageShift << 12);
    }
  }

  /** KVM leaves the brand empty. It takes three leaves, which KVM always lists together. */
  #fillBrand(at: number): void {
    if (this.#words[at + EAX] !== 0) {
      return;
    }
    const text = new Uint8Array(48);
    setAscii(text, 0, BRAND_FALLBACK);
    const registers = new Uint32Array(text.buffer);
    for (let leaf = 0; leaf < 3; leaf++) {
      const entry = at + leaf * WORDS;
      if (this.#words[entry] === 0x8000_0002 + leaf) {
        this.#words.set(registers.subarray(4 * leaf, 4 * leaf + 4), entry + EAX);
      }
    }
  }

  /** Extended topology enumeration; level numbers and the level after the last as both vendors define them. */
  #addTopologyLeaf(leaf: number, withDies: boolean): void {
    if (leaf > this.#maxBasic) {
      return;
    }
    const { topology } = this.#policy;
    const coreThreads = topology.threadsPerCore * topology.coresPerDie;
    const all = threadsPerPackage(topology);
    let index = 0;
    const level = (type: number, shift: number, count: number) => {
      this.#apicIdAt.push(this.#count * WORDS + EDX);
      this.#add(leaf, index, SIGNIFICANT_INDEX, shift, count, (type << 8) | index, 0);
      index++;
    };
    level(LEVEL_SMT, topology.coreShift, topology.threadsPerCore);
    if (withDies && topology.diesPerPackage > 1) {
      level(LEVEL_CORE, topology.dieShift, coreThreads);
      level(LEVEL_DIE, topology.packageShift, all);
    } else {
      level(LEVEL_CORE, topology.packageShift, all);
    }
    level(0, 0, 0);
  }

  /** Leaf 0x8000001E: extended APIC id, compute unit and node identifiers. */
  #setExtendedApic(words: Uint32Array, apicId: number): void {
    const at = this.#extendedApicAt;
    const { topology } = this.#policy;
    const inPackage = apicId & ((1 << topology.packageShift) - 1);
    const core = inPackage >> topology.coreShift;
    const die = inPackage >> topology.dieShift;
    const node = (apicId >> topology.packageShift) * topology.diesPerPackage + die;
    words[at + EAX] = apicId;
    words[at + EBX] = (core & 0xff) | ((topology.threadsPerCore - 1) << 8);
    words[at + ECX] = (node & 0xff) | ((topology.diesPerPackage - 1) << 8);
    words[at + EDX] = 0;
  }

  #add(leaf: number, index: number, flags: number, eax: number, ebx: number, ecx: number, edx: number): void {
    const at = this.#count * WORDS;
    const words = this.#words;
    words[at] = leaf;
    words[at + INDEX] = index;
    words[at + FLAGS] = flags;
    words[at + EAX] = eax;
    words[at + EBX] = ebx;
    words[at + ECX] = ecx;
    words[at + EDX] = edx;
    this.#count++;
  }
}

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
// Leaf 0x40000001: MSI messages carry 15 bits of APIC id.
const MSI_EXT_DEST_ID = 1 << 15;
// Leaf 0x80000001.
const SVM = 1 << 2;
// Leaves 4 and 0x8000001D.
const CACHE_TYPE = 0x1f;

/** Bits 25 to 14 of a cache leaf say, less one, how many logical processors share it: at most those of one die. */
function clampSharing(words: Uint32Array, at: number, topology: Topology): void {
  const value = word(words, at);
  const sharing = Math.min((value >>> 14) & 0xfff, (1 << topology.dieShift) - 1);
  words[at] = (value & ~(0xfff << 14)) | (sharing << 14);
}

function set(words: Uint32Array, at: number, bits: number): void {
  words[at] = word(words, at) | bits;
}

function clear(words: Uint32Array, at: number, bits: number): void {
  words[at] = word(words, at) & ~bits;
}

/** Positions come from the table's own length, so they are inside it. */
function word(words: Uint32Array, at: number): number {
  return words[at] as number;
}
