/**
 * What a debugger has of a machine: RAM that lies where its addresses say, device memory behind it, and registers of
 * zeroes.
 */
import type { DebugCalls, RegisterSet } from '../../../src/native.ts';

/** Bytes; up to twice that an address leads to a device, and then nowhere. */
export const FAKE_RAM = 64 * 1024;
/** Of kvm_regs, kvm_sregs and the XSAVE area with AVX's part. */
const SIZES: Readonly<Record<RegisterSet, number>> = { general: 144, special: 312, vector: 832 };

export interface FakeDebug extends DebugCalls {
  readonly ram: Uint8Array;
  /** By vCPU and set, once written or read. */
  readonly registers: Map<string, Uint8Array>;
  /** An address that only this vCPU's page tables have, and where it leads. */
  secret: { vcpu: number; address: bigint; physical: bigint } | undefined;
  /** What machineDebugResume was called with. */
  readonly resumes: Parameters<DebugCalls['machineDebugResume']>[1 | 2][][];
  stops: number;
}

export function fakeDebug(): FakeDebug {
  const ram = new Uint8Array(FAKE_RAM);
  const registers = new Map<string, Uint8Array>();
  const inRam = (address: bigint, length: number) => address + BigInt(length) <= BigInt(FAKE_RAM);
  const fake: FakeDebug = {
    ram,
    registers,
    resumes: [],
    stops: 0,
    secret: undefined,
    machineDebugStop: async () => {
      fake.stops++;
    },
    machineDebugResume: async (_handle, orders, traps) => {
      fake.resumes.push([[...orders], { hardware: [...traps.hardware], software: [...traps.software] }]);
    },
    machineDebugRegisters: async (_handle, vcpu, set) =>
      (registers.get(`${vcpu} ${set}`) ?? new Uint8Array(SIZES[set])).slice(),
    machineDebugSetRegisters: async (_handle, vcpu, set, bytes) => {
      registers.set(`${vcpu} ${set}`, bytes.slice());
    },
    machineDebugTranslate: async (_handle, vcpu, address) => {
      if (fake.secret?.vcpu === vcpu && fake.secret.address === address) return fake.secret.physical;
      return address < BigInt(2 * FAKE_RAM) ? address : null;
    },
    machineDebugRead: async (_handle, address, length) =>
      inRam(address, length) ? ram.slice(Number(address), Number(address) + length) : null,
    machineDebugWrite: async (_handle, address, bytes) => {
      if (!inRam(address, bytes.length)) return false;
      ram.set(bytes, Number(address));
      return true;
    },
  };
  return fake;
}
