import { describe, expect, it } from 'vitest';
import { planTopology } from '../../../src/platform/x86_64/apicId.ts';
import { buildCpuid, type CpuidPolicy } from '../../../src/platform/x86_64/cpuid.ts';
import { buildMsrs } from '../../../src/platform/x86_64/msrs.ts';
import { configOf, hostOf, type Leaf, packCpuid, unpackCpuid } from './support.ts';

const INTEL: Leaf = [0, 0, 0x1f, 0x756e_6547, 0x6c65_746e, 0x4965_6e69];
const AMD: Leaf = [0, 0, 0x10, 0x6874_7541, 0x444d_4163, 0x6974_6e65];
const ALL = 0xffff_ffff;

/** Every leaf that the policy touches, with all bits set where they can be. */
const COMMON: readonly Leaf[] = [
  [1, 0, 0x806f8, 0xffff_08ff, 1 << 5, 0],
  [4, 0, 0x1c00_4121, 0, 0, 0],
  [4, 1, ALL & ~0x1f, 7, 0, 0],
  [7, 0, 1, ALL, ALL, ALL],
  [7, 1, ALL, 0, 0, 0],
  [0xb, 0, 1, 2, 0x100, 77],
  [0xb, 1, 4, 8, 0x201, 77],
  [0xd, 0, 0x602e7, 0x2000, 0x2000, 0],
  [0xd, 17, 64, 2752, 0, 0],
  [0xd, 18, 8192, 2816, 0, 0],
  [0x1d, 1, 1, 2, 3, 4],
  [0x1e, 0, 0, 5, 0, 0],
  [0x1f, 0, 1, 2, 0x100, 77],
  [0x8000_0000, 0, 0x8000_0021, 0, 0, 0],
  [0x8000_0001, 0, 0, 0, 1 << 2, 0],
  [0x8000_0002, 0, 0, 0, 0, 0],
  [0x8000_0003, 0, 0, 0, 0, 0],
  [0x8000_0004, 0, 0, 0, 0, 0],
  [0x8000_0008, 0, 0x0030_3934, 0x55, 0x703f, 0],
  [0x8000_001d, 0, 0x03ff_c121, 0, 0, 0],
  [0x8000_001e, 0, 5, 6, 7, 8],
  [0x4000_0000, 0, 0x4000_0001, 0x4b4d_564b, 0x564b_4d56, 0x4d],
  [0x4000_0001, 0, 0x0100_7efb, 0, 0, 0],
];

const ONE_CPU = planTopology(configOf().cpus);

function cpuid(
  vendor: Leaf,
  policy: Partial<CpuidPolicy> = {},
  apicIds: readonly number[] = [0],
  tscKhz = 2_500_000,
) {
  const host = hostOf({ supportedCpuid: packCpuid([vendor, ...COMMON]), tscKhz });
  return buildCpuid(host, { physBits: 46, nested: true, topology: ONE_CPU, ...policy }, apicIds).map(
    unpackCpuid,
  );
}

function topologyOf(threads: number, cores: number, dies: number, packages: number) {
  const max_vcpus = threads * cores * dies * packages;
  const topology = {
    threads_per_core: threads,
    cores_per_die: cores,
    dies_per_package: dies,
    packages,
  };
  return planTopology(configOf({ cpus: { boot_vcpus: 1, max_vcpus, topology } }).cpus);
}

describe('buildCpuid', () => {
  it('sets what every guest of ours has', () => {
    const [entries] = cpuid(INTEL);
    const features = entries?.get('1');
    expect(features?.ecx).toBe(((1 << 31) | (1 << 24) | (1 << 5)) >>> 0);
    expect(features?.edx).toBe(1 << 12);
    expect(entries?.get('40000001')?.eax).toBe(0x0100_fefb);
    expect(entries?.get('0')).toMatchObject({ ebx: 0x756e_6547 });
  });

  it('hides virtualization when it is not to be nested', () => {
    const [entries] = cpuid(AMD, { nested: false });
    expect((entries?.get('1')?.ecx ?? 0) & (1 << 5)).toBe(0);
    expect(entries?.get('80000001')?.ecx).toBe(0);
    expect(cpuid(AMD)[0]?.get('80000001')?.ecx).toBe(4);
  });

  it('tells the width of addresses', () => {
    expect(cpuid(INTEL)[0]?.get('80000008')).toMatchObject({ eax: 0x002e_392e, ecx: 0x703f });
    expect(cpuid(AMD, { physBits: 52 })[0]?.get('80000008')?.eax).toBe(0x0030_3934);
  });

  it('leaves AMX out', () => {
    const [entries] = cpuid(INTEL);
    expect(entries?.get('7')?.edx).toBe((ALL & ~((1 << 22) | (1 << 24) | (1 << 25))) >>> 0);
    expect(entries?.get('d')?.eax).toBe(0x2e7);
    expect(entries?.get('1e')?.ebx).toBe(0);
  });

  it('tells the frequencies only of an invariant TSC', () => {
    const [entries] = cpuid(INTEL);
    expect(entries?.get('40000010')).toMatchObject({ eax: 2_500_000, ebx: 1_000_000 });
    expect(entries?.get('40000000')?.eax).toBe(0x4000_0010);
    const [without] = cpuid(INTEL, {}, [0], 0);
    expect(without?.has('40000010')).toBe(false);
    expect(without?.get('40000000')?.eax).toBe(0x4000_0001);
  });

  it('fills a brand that KVM leaves empty, and no other', () => {
    const [entries] = cpuid(INTEL);
    const words: number[] = [];
    for (const leaf of ['80000002', '80000003', '80000004']) {
      const { eax = 0, ebx = 0, ecx = 0, edx = 0 } = entries?.get(leaf) ?? {};
      words.push(eax, ebx, ecx, edx);
    }
    const brand = new TextDecoder().decode(new Uint32Array(words));
    expect(brand.replaceAll('\0', '')).toBe('tsvmm virtual processor');
    const host = hostOf({ supportedCpuid: packCpuid([INTEL, [0x8000_0002, 0, 0x4141_4141, 0, 0, 0]]) });
    const [kept] = buildCpuid(host, { physBits: 46, nested: true, topology: ONE_CPU }, [0]).map(unpackCpuid);
    expect(kept?.get('80000002')).toMatchObject({ eax: 0x4141_4141, ebx: 0 });
  });

  it('gives each vCPU its APIC id', () => {
    const all = cpuid(AMD, { topology: topologyOf(2, 2, 1, 2) }, [0, 3, 5]);
    for (const [index, id] of [0, 3, 5].entries()) {
      const entries = all[index];
      expect((entries?.get('1')?.ebx ?? 0) >>> 24).toBe(id);
      expect((entries?.get('1')?.ebx ?? 0) & 0xffff).toBe(0x08ff);
      expect(entries?.get('b.0')?.edx).toBe(id);
      expect(entries?.get('8000001e')?.eax).toBe(id);
    }
    expect(all[1]?.get('8000001e')).toMatchObject({ ebx: 0x101, ecx: 0 });
    expect(all[2]?.get('8000001e')).toMatchObject({ ebx: 0x100, ecx: 1 });
  });

  it('describes the topology by levels', () => {
    const [entries] = cpuid(INTEL, { topology: topologyOf(2, 3, 2, 1) }, [9]);
    expect(level(entries, 'b')).toEqual({ eax: 1, ebx: 2, ecx: 0x100, edx: 9 });
    expect(level(entries, 'b.1')).toEqual({ eax: 4, ebx: 12, ecx: 0x201, edx: 9 });
    expect(level(entries, 'b.2')).toEqual({ eax: 0, ebx: 0, ecx: 2, edx: 9 });
    expect(level(entries, '1f')).toEqual({ eax: 1, ebx: 2, ecx: 0x100, edx: 9 });
    expect(level(entries, '1f.1')).toEqual({ eax: 3, ebx: 6, ecx: 0x201, edx: 9 });
    expect(level(entries, '1f.2')).toEqual({ eax: 4, ebx: 12, ecx: 0x502, edx: 9 });
    expect(level(entries, '1f.3')).toEqual({ eax: 0, ebx: 0, ecx: 3, edx: 9 });
    expect((entries?.get('1')?.ebx ?? 0) & 0x00ff_0000).toBe(16 << 16);
    expect(entries?.get('1')?.edx).toBe((1 << 28) | (1 << 12));
  });

  it('has only the topology leaves that the processor goes up to', () => {
    const [entries] = cpuid(AMD);
    expect([...(entries?.keys() ?? [])].filter((key) => key.startsWith('1f'))).toEqual([]);
  });

  it('has caches shared by no more than a die', () => {
    const [entries] = cpuid(INTEL, { topology: topologyOf(2, 4, 2, 1) });
    expect(entries?.get('4')?.eax).toBe(((7 << 26) | 0x4121) >>> 0);
    expect(entries?.get('4.1')?.eax).toBe((ALL & ~0x1f) >>> 0);
    expect(entries?.get('8000001d')?.eax).toBe((7 << 14) | 0x121);
    expect(cpuid(AMD)[0]?.get('8000001d')?.eax).toBe(0x121);
  });

  it('counts the threads of a package for AMD', () => {
    const [entries] = cpuid(AMD, { topology: topologyOf(2, 3, 1, 1) });
    expect(entries?.get('80000008')?.ecx).toBe(0x3005);
  });

  it('takes a table of any length and alignment', () => {
    const policy = { physBits: 46, nested: true, topology: ONE_CPU };
    const odd = new Uint8Array(1 + 40 + 39);
    odd.set(packCpuid([INTEL]), 1);
    const shifted = hostOf({ supportedCpuid: odd.subarray(1), tscKhz: 0 });
    const [entries] = buildCpuid(shifted, policy, [0]).map(unpackCpuid);
    expect(entries?.get('0')?.ebx).toBe(0x756e_6547);
    expect(buildCpuid(hostOf({ supportedCpuid: new Uint8Array(0), tscKhz: 0 }), policy, [0])[0]).toHaveLength(
      0,
    );
  });
});

function level(entries: ReturnType<typeof unpackCpuid> | undefined, key: string) {
  const { flags, ...registers } = entries?.get(key.includes('.') ? key : `${key}.0`) ?? { flags: 0 };
  expect(flags).toBe(1);
  return registers;
}

describe('buildMsrs', () => {
  it('lists them once each, MTRRs on and strings fast', () => {
    const words = new Uint32Array(buildMsrs().buffer);
    const values = new Map<number, number>();
    for (let at = 0; at < words.length; at += 4) {
      expect([words[at + 1], words[at + 3]]).toEqual([0, 0]);
      values.set(words[at] as number, words[at + 2] as number);
    }
    expect(values.size).toBe(11);
    expect(values.get(0x2ff)).toBe(0x806);
    expect(values.get(0x1a0)).toBe(1);
    expect(values.get(0xc000_0080)).toBeUndefined();
  });
});
