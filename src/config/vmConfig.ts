/**
 * The configuration of a VM: the one description of its fields, from which types, decoding, options, help and the
 * OpenAPI document are derived. Names are those of the REST API's JSON.
 */
import { debugConsoleConfig, serialConfig } from '../devices/characterDevices.ts';
import { rateLimitGroupConfig } from '../devices/rateLimiter.ts';
import { deviceFields } from '../devices/registry.ts';
import { landlockConfig } from './landlock.ts';
import { U8, U16, U32 } from './limits.ts';
import { memoryConfig } from './memory.ts';
import { numaConfig } from './numa.ts';
import { payloadConfig } from './payload.ts';
import { pciSegmentConfig, platformConfig } from './platform.ts';
import { pvmemcontrolConfig } from './pvmemcontrol.ts';
import type { Infer, Input } from './schema.ts';
import { tpmConfig } from './tpm.ts';

const cpuTopology = {
  type: 'object',
  name: 'CpuTopology',
  fields: {
    threads_per_core: { type: 'integer', max: U16, required: true, help: 'Threads of a core, 1 or 2' },
    cores_per_die: { type: 'integer', max: U16, required: true, help: 'Cores of a die' },
    dies_per_package: { type: 'integer', max: U16, required: true, help: 'Dies of a package' },
    packages: { type: 'integer', max: U16, required: true, help: 'Packages' },
  },
} as const;

const cpuAffinity = {
  type: 'object',
  name: 'CpuAffinity',
  fields: {
    vcpu: { type: 'integer', max: U32, required: true, help: 'Number of the vCPU, from 0' },
    host_cpus: {
      type: 'array',
      items: { type: 'integer', max: U32 },
      required: true,
      help: 'Numbers of host CPUs',
    },
  },
} as const;

const cpusConfig = {
  type: 'object',
  name: 'CpusConfig',
  default: { boot_vcpus: 1, max_vcpus: 1 },
  help: 'Virtual CPUs',
  mainKey: 'boot',
  fields: {
    boot_vcpus: { type: 'integer', max: U32, required: true, cli: 'boot', help: 'Number of vCPUs at boot' },
    max_vcpus: { type: 'integer', max: U32, required: true, cli: 'max', help: 'Highest number of vCPUs' },
    topology: { ...cpuTopology, help: 'threads_per_core:cores_per_die:dies_per_package:packages' },
    kvm_hyperv: { type: 'boolean', default: false, unsupported: true, help: 'Hyper-V enlightenments' },
    max_phys_bits: {
      type: 'integer',
      max: U8,
      default: 46,
      help: 'Upper bound of guest physical address bits',
    },
    affinity: { type: 'array', items: cpuAffinity, help: 'Host CPUs that each vCPU thread may run on' },
    features: {
      type: 'object',
      name: 'CpuFeatures',
      fields: { amx: { type: 'boolean', default: false, unsupported: true, help: 'Intel AMX' } },
      default: {},
      help: 'Optional CPU features',
    },
    nested: { type: 'boolean', default: true, help: 'Offer hardware virtualization to the guest' },
    core_scheduling: {
      type: 'enum',
      values: { Vm: 'vm', Vcpu: 'vcpu', Off: 'off' },
      default: 'Vm',
      help: 'Which threads may share an SMT core',
    },
    profile: { type: 'enum', values: { Host: 'host' }, default: 'Host', help: 'CPU model' },
  },
} as const;

export const vmConfig = {
  type: 'object',
  name: 'VmConfig',
  fields: {
    cpus: cpusConfig,
    memory: memoryConfig,
    payload: payloadConfig,
    rate_limit_groups: { type: 'array', items: rateLimitGroupConfig, help: 'Limits that disks share' },
    ...deviceFields,
    serial: serialConfig,
    debug_console: debugConsoleConfig,
    numa: { type: 'array', items: numaConfig, help: 'NUMA nodes of the guest' },
    gdb: { type: 'boolean', default: false, help: 'Wait for a debugger at the socket of --gdb' },
    pci_segments: { type: 'array', items: pciSegmentConfig, help: 'Address space of PCI segments' },
    platform: platformConfig,
    tpm: tpmConfig,
    landlock_enable: { type: 'boolean', default: false, unsupported: true, help: 'Sandbox for files' },
    landlock_rules: {
      type: 'array',
      items: landlockConfig,
      help: 'More files that the sandbox lets through',
    },
    pvmemcontrol: pvmemcontrolConfig,
  },
} as const;

export type CpusConfig = Infer<typeof cpusConfig>;
export type { PlatformConfig } from './platform.ts';
/** A complete configuration: every field that has a default is there. */
export type VmConfig = Infer<typeof vmConfig>;
/** What `vm.create` and the library accept: fields with defaults may be left out. */
export type VmConfigInput = Input<typeof vmConfig>;
