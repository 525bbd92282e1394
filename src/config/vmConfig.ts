/**
 * The configuration of a VM: the one description of its fields, from which types, decoding, options, help and the
 * OpenAPI document are derived. Names are those of the REST API's JSON.
 */
import { balloonConfig } from './devices/balloon.ts';
import { consoleConfig, debugConsoleConfig, serialConfig } from './devices/console.ts';
import { diskConfig } from './devices/disk.ts';
import { netConfig } from './devices/net.ts';
import { pmemConfig } from './devices/pmem.ts';
import { rateLimitGroupConfig } from './devices/rateLimiter.ts';
import { rngConfig } from './devices/rng.ts';
import { rtcConfig } from './devices/rtc.ts';
import { vsockConfig } from './devices/vsock.ts';
import { U8, U16, U32 } from './limits.ts';
import type { Infer, Input } from './schema.ts';

export const DEFAULT_MEMORY_SIZE: number = 512 * 1024 * 1024;

const cpuTopology = {
  type: 'object',
  name: 'CpuTopology',
  fields: {
    threads_per_core: { type: 'integer', max: U16, required: true },
    cores_per_die: { type: 'integer', max: U16, required: true },
    dies_per_package: { type: 'integer', max: U16, required: true },
    packages: { type: 'integer', max: U16, required: true },
  },
} as const;

const cpuAffinity = {
  type: 'object',
  name: 'CpuAffinity',
  fields: {
    vcpu: { type: 'integer', max: U32, required: true },
    host_cpus: { type: 'array', items: { type: 'integer', max: U32 }, required: true },
  },
} as const;

export const cpusConfig = {
  type: 'object',
  name: 'CpusConfig',
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
      fields: { amx: { type: 'boolean', default: false, unsupported: true } },
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

export const memoryConfig = {
  type: 'object',
  name: 'MemoryConfig',
  fields: {
    size: { type: 'integer', size: true, required: true, help: 'Memory of the guest' },
    mergeable: { type: 'boolean', default: false, help: 'Let the host merge equal pages' },
    shared: { type: 'boolean', default: false, help: 'Map memory shared' },
    hugepages: { type: 'boolean', default: false, help: 'Back memory with huge pages' },
    hugepage_size: { type: 'integer', size: true, help: 'Size of a huge page' },
    hotplug_method: {
      type: 'enum',
      values: { Acpi: 'acpi', VirtioMem: 'virtio-mem' },
      default: 'Acpi',
      help: 'How memory is added later',
    },
    hotplug_size: { type: 'integer', size: true, unsupported: true, help: 'Memory that can be added later' },
    hotplugged_size: { type: 'integer', size: true, unsupported: true, help: 'Memory added from the start' },
    prefault: { type: 'boolean', default: false, help: 'Populate all pages at start' },
    reserve: { type: 'boolean', default: false, help: 'Reserve swap space for the mapping' },
    thp: { type: 'boolean', default: true, help: 'Use transparent huge pages' },
    zones: { type: 'any', unsupported: true, cli: false },
  },
} as const;

export const payloadConfig = {
  type: 'object',
  name: 'PayloadConfig',
  fields: {
    firmware: { type: 'string', help: 'Firmware to boot, a PVH ELF image' },
    kernel: { type: 'string', help: 'Kernel to boot, a PVH ELF image or a bzImage' },
    cmdline: { type: 'string', help: 'Kernel command line' },
    initramfs: { type: 'string', help: 'Initial RAM file system' },
    igvm: { type: 'any', unsupported: true },
    host_data: { type: 'any', unsupported: true },
    fw_cfg_config: { type: 'any', unsupported: true },
  },
} as const;

export const platformConfig = {
  type: 'object',
  name: 'PlatformConfig',
  fields: {
    num_pci_segments: {
      type: 'integer',
      max: U16,
      default: 1,
      unsupported: true,
      help: 'Number of PCI segments',
    },
    iommu_segments: { type: 'any', unsupported: true },
    iommu_address_width_bits: {
      type: 'integer',
      max: U8,
      default: 64,
      unsupported: true,
      cli: 'iommu_address_width',
    },
    iommufd: { type: 'boolean', default: false, unsupported: true },
    iommufd_fd: { type: 'any', unsupported: true },
    vfio_p2p_dma: { type: 'boolean', default: true, unsupported: true },
    system_manufacturer: { type: 'string', help: 'SMBIOS manufacturer' },
    system_product_name: { type: 'string', help: 'SMBIOS product name' },
    system_version: { type: 'string', help: 'SMBIOS version' },
    system_serial_number: { type: 'string', alias: 'serial_number', help: 'SMBIOS serial number' },
    system_uuid: { type: 'string', alias: 'uuid', help: 'SMBIOS UUID' },
    system_sku_number: { type: 'string', help: 'SMBIOS SKU number' },
    system_family: { type: 'string', help: 'SMBIOS family' },
    chassis_asset_tag: { type: 'string', help: 'SMBIOS chassis asset tag' },
    oem_strings: { type: 'array', items: { type: 'string' }, help: 'SMBIOS OEM strings' },
    tdx: { type: 'boolean', default: false, unsupported: true },
    sev_snp: { type: 'boolean', default: false, unsupported: true },
  },
} as const;

export const vmConfig = {
  type: 'object',
  name: 'VmConfig',
  fields: {
    cpus: { ...cpusConfig, default: { boot_vcpus: 1, max_vcpus: 1 }, help: 'Virtual CPUs' },
    memory: { ...memoryConfig, default: { size: DEFAULT_MEMORY_SIZE }, help: 'Guest memory' },
    payload: { ...payloadConfig, help: 'What the guest boots' },
    rate_limit_groups: { type: 'array', items: rateLimitGroupConfig, help: 'Limits that disks share' },
    disks: { type: 'array', items: diskConfig, help: 'Disks (virtio-block)' },
    net: { type: 'array', items: netConfig, help: 'Network devices (virtio-net)' },
    rng: { ...rngConfig, default: { src: '/dev/urandom' }, help: 'Entropy device (virtio-rng)' },
    balloon: { ...balloonConfig, help: 'Memory balloon (virtio-balloon)' },
    generic_vhost_user: { type: 'any', unsupported: true },
    fs: { type: 'any', unsupported: true },
    pmem: { type: 'array', items: pmemConfig, help: 'Persistent memory (virtio-pmem)' },
    serial: { ...serialConfig, default: { mode: 'Null' }, help: 'Serial port (16550)' },
    console: { ...consoleConfig, default: { mode: 'Tty' }, help: 'Console (virtio-console)' },
    debug_console: { ...debugConsoleConfig, default: { mode: 'Off', iobase: 0xe9 }, help: 'Debug port' },
    devices: { type: 'any', unsupported: true },
    user_devices: { type: 'any', unsupported: true },
    vdpa: { type: 'any', unsupported: true },
    vsock: { ...vsockConfig, help: 'Sockets between guest and host (virtio-vsock)' },
    pvpanic: { type: 'boolean', default: false, help: 'Let the guest tell when its kernel fails' },
    iommu: { type: 'boolean', default: false, unsupported: true },
    numa: { type: 'any', unsupported: true },
    watchdog: { type: 'boolean', default: false, help: 'Add a virtio watchdog' },
    rtc: { ...rtcConfig, help: 'Clock for the guest to read (virtio-rtc)' },
    gdb: { type: 'boolean', unsupported: true },
    pci_segments: { type: 'any', unsupported: true },
    platform: { ...platformConfig, help: 'Platform and SMBIOS strings' },
    tpm: { type: 'any', unsupported: true },
    landlock_enable: { type: 'boolean', default: false, unsupported: true },
    landlock_rules: { type: 'any', unsupported: true },
    ivshmem: { type: 'any', unsupported: true },
    pvmemcontrol: { type: 'any', unsupported: true },
  },
} as const;

export type CpusConfig = Infer<typeof cpusConfig>;
export type MemoryConfig = Infer<typeof memoryConfig>;
export type PayloadConfig = Infer<typeof payloadConfig>;
export type PlatformConfig = Infer<typeof platformConfig>;
/** A complete configuration: every field that has a default is there. */
export type VmConfig = Infer<typeof vmConfig>;
/** What `vm.create` and the library accept: fields with defaults may be left out. */
export type VmConfigInput = Input<typeof vmConfig>;
