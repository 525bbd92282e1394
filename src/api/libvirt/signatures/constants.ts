/**
 * Flags and other numbers of libvirt's interface (libvirt-domain.h, libvirt-host.h, remote_protocol.x), for the client
 * and the daemon. Their names are those of the client's options.
 */

/** virConnectListAllDomainsFlags. */
export const ListFilter = {
  active: 1,
  inactive: 2,
  persistent: 4,
  transient: 8,
  running: 16,
  paused: 32,
  shutOff: 64,
  otherState: 128,
  managedSave: 256,
  noManagedSave: 512,
  autostart: 1024,
  noAutostart: 2048,
  hasSnapshot: 4096,
  noSnapshot: 8192,
  hasCheckpoint: 16_384,
  noCheckpoint: 32_768,
} as const;
/** virDomainDefineFlags. */
export const Define = { validate: 1 } as const;
/** virDomainCreateFlags. */
export const Create = {
  paused: 1,
  autoDestroy: 2,
  bypassCache: 4,
  forceBoot: 8,
  validate: 16,
  resetNvram: 32,
} as const;
/** virDomainShutdownFlagValues, virDomainRebootFlagValues. */
export const Shutdown = { acpi: 1, agent: 2, initctl: 4, signal: 8, paravirt: 16 } as const;
/** virDomainDestroyFlagsValues. */
export const Destroy = { graceful: 1 } as const;
/** virDomainUndefineFlagsValues. */
export const Undefine = {
  managedSave: 1,
  snapshotsMetadata: 2,
  nvram: 4,
  keepNvram: 8,
  checkpointsMetadata: 16,
  tpm: 32,
  keepTpm: 64,
} as const;
/** virDomainXMLFlags. */
export const Xml = { secure: 1, inactive: 2, updateCpu: 4, migratable: 8 } as const;
/** virDomainModificationImpact, and the bit that virDomainVcpuFlags and virDomainMemoryModFlags have beside it. */
export const Affect = { live: 1, config: 2, maximum: 4 } as const;
/** virDomainVcpuFlags: asks the guest's agent. */
export const VCPU_GUEST = 8;
/** virDomainDeviceModifyFlags: of media that the guest has locked. */
export const DEVICE_MODIFY_FORCE = 4;
/** virDomainConsoleFlags. */
export const Console = { force: 1, safe: 2 } as const;
/** virDomainChannelFlags. */
export const Channel = { force: 1 } as const;
/** virDomainSaveRestoreFlags. */
export const Save = { bypassCache: 1, running: 2, paused: 4 } as const;
/** virDomainCoreDumpFlags. */
export const Dump = { crash: 1, live: 2, bypassCache: 4, reset: 8, memoryOnly: 16 } as const;
/** virDomainBlockResizeFlags: the size is in bytes, not KiB. */
export const BLOCK_RESIZE_BYTES = 1;
/** virDomainStatsTypes; 0 asks for all. */
export const Stats = {
  state: 1,
  cpu: 2,
  balloon: 4,
  vcpu: 8,
  interface: 16,
  block: 32,
  perf: 64,
  iothread: 128,
  memory: 256,
  dirtyrate: 512,
  vm: 1024,
} as const;
/** virConnectGetAllDomainStatsFlags, beside the first eight bits of `ListFilter`. */
export const StatsFlag = { noWait: 2 ** 29, enforce: 2 ** 31 } as const;
/** virDomainMetadataType. */
export const Metadata = { description: 0, title: 1, element: 2 } as const;
/** virDomainInterfaceAddressesSource. */
export const AddressSource = { lease: 0, agent: 1, arp: 2 } as const;
/** VIR_NODE_CPU_STATS_ALL_CPUS, VIR_NODE_MEMORY_STATS_ALL_CELLS. */
export const ALL = -1;

/** virConnectFlags. */
export const OPEN_READ_ONLY = 1;
/** VIR_DRV_FEATURE_*. */
export const Feature = {
  typedParameterStrings: 9,
  keepalive: 10,
  perCallbackEvents: 14,
  closeCallback: 15,
} as const;
/** remote_auth_type. */
export const Auth = { none: 0, sasl: 1, polkit: 2 } as const;
/** By how many requests without an answer a connection is lost, and how far they are apart. */
export const KEEPALIVE = { intervalMs: 5_000, count: 5 } as const;
/** As IANA has it. */
export const TLS_PORT = 16_514;
/** The byte by which a daemon says, behind a TLS handshake, that it admits the client. */
export const TLS_ADMITTED = 1;
