import { array, bytes, dom, i32, i64, optional, parameter, str, struct, u32, u64 } from '../types.ts';
import { signature } from './signature.ts';

const vcpuInfo = struct({ number: u32, state: i32, cpu_time: u64, cpu: i32 });
const address = struct({ type: i32, addr: str, prefix: u32 });
const memoryStat = struct({ tag: i32, val: u64 });

/** Bytes of all maps of CPUs in an answer (REMOTE_CPUMAPS_MAX). */
export const MAX_CPU_MAPS = 8_388_608;

export const resourcesSignatures = {
  domainGetMaxVcpus: signature(18, 'virDomainGetMaxVcpus', { dom }, { num: i32 }),
  domainGetVcpusFlags: signature(200, 'virDomainGetVcpusFlags', { dom, flags: u32 }, { num: i32 }),
  domainGetVcpus: signature(
    20,
    'virDomainGetVcpus',
    { dom, maxinfo: i32, maplen: i32 },
    { info: array(vcpuInfo, 16_384), cpumaps: bytes(MAX_CPU_MAPS) },
  ),
  domainGetVcpuPinInfo: signature(
    230,
    'virDomainGetVcpuPinInfo',
    { dom, ncpumaps: i32, maplen: i32, flags: u32 },
    { cpumaps: bytes(MAX_CPU_MAPS), num: i32 },
  ),
  domainPinVcpu: signature(26, 'virDomainPinVcpu', { dom, vcpu: u32, cpumap: bytes(2048) }, {}),
  domainPinVcpuFlags: signature(
    225,
    'virDomainPinVcpuFlags',
    { dom, vcpu: u32, cpumap: bytes(2048), flags: u32 },
    {},
  ),
  domainSetMaxMemory: signature(30, 'virDomainSetMaxMemory', { dom, memory: u64 }, {}),
  domainInterfaceStats: signature(
    65,
    'virDomainInterfaceStats',
    { dom, device: str },
    {
      ...{ rx_bytes: i64, rx_packets: i64, rx_errs: i64, rx_drop: i64 },
      ...{ tx_bytes: i64, tx_packets: i64, tx_errs: i64, tx_drop: i64 },
    },
  ),
  domainInterfaceAddresses: signature(
    353,
    'virDomainInterfaceAddresses',
    { dom, source: u32, flags: u32 },
    { ifaces: array(struct({ name: str, hwaddr: optional(str), addrs: array(address, 2048) }), 2048) },
  ),
  domainGetDiskErrors: signature(
    263,
    'virDomainGetDiskErrors',
    { dom, maxerrors: u32, flags: u32 },
    { errors: array(struct({ disk: str, error: i32 }), 256), nerrors: i32 },
  ),
  domainSetVcpus: signature(32, 'virDomainSetVcpus', { dom, nvcpus: u32 }, {}),
  domainSetVcpusFlags: signature(199, 'virDomainSetVcpusFlags', { dom, nvcpus: u32, flags: u32 }, {}),
  domainGetMaxMemory: signature(17, 'virDomainGetMaxMemory', { dom }, { memory: u64 }),
  domainSetMemory: signature(31, 'virDomainSetMemory', { dom, memory: u64 }, {}),
  domainSetMemoryFlags: signature(204, 'virDomainSetMemoryFlags', { dom, memory: u64, flags: u32 }, {}),
  domainMemoryStats: signature(
    159,
    'virDomainMemoryStats',
    { dom, maxStats: u32, flags: u32 },
    { stats: array(memoryStat, 1024) },
  ),
  domainGetCpuStats: signature(
    262,
    'virDomainGetCPUStats',
    { dom, nparams: u32, start_cpu: i32, ncpus: u32, flags: u32 },
    { params: array(parameter, 2048), nparams: i32 },
  ),
  domainGetBlockInfo: signature(
    194,
    'virDomainGetBlockInfo',
    { dom, path: str, flags: u32 },
    { allocation: u64, capacity: u64, physical: u64 },
  ),
  domainBlockStats: signature(
    64,
    'virDomainBlockStats',
    { dom, path: str },
    { rd_req: i64, rd_bytes: i64, wr_req: i64, wr_bytes: i64, errs: i64 },
  ),
  domainBlockStatsFlags: signature(
    243,
    'virDomainBlockStatsFlags',
    { dom, path: str, nparams: i32, flags: u32 },
    { params: array(parameter, 16), nparams: i32 },
  ),
  connectGetAllDomainStats: signature(
    344,
    'virConnectGetAllDomainStats',
    { doms: array(dom, 16_384), stats: u32, flags: u32 },
    { retStats: array(struct({ dom, params: array(parameter, 262_144) }), 16_384) },
  ),
} as const;
