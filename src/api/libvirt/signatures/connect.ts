import { array, bytes, fixedArray, i32, optional, str, struct, u32, u64 } from '../types.ts';
import { signature } from './signature.ts';

const nodeStat = struct({ field: str, value: u64 });

export const connectSignatures = {
  authList: signature(66, 'virConnectAuthList', {}, { types: array(i32, 20) }),
  authPolkit: signature(70, 'virConnectAuthPolkit', {}, { complete: i32 }),
  connectSupportsFeature: signature(60, 'virConnectSupportsFeature', { feature: i32 }, { supported: i32 }),
  connectOpen: signature(1, 'virConnectOpen', { name: optional(str), flags: u32 }, {}),
  connectClose: signature(2, 'virConnectClose', {}, {}),
  connectGetType: signature(3, 'virConnectGetType', {}, { type: str }),
  connectGetVersion: signature(4, 'virConnectGetVersion', {}, { hv_ver: u64 }),
  connectGetLibVersion: signature(157, 'virConnectGetLibVersion', {}, { lib_ver: u64 }),
  connectGetHostname: signature(59, 'virConnectGetHostname', {}, { hostname: str }),
  connectGetUri: signature(110, 'virConnectGetURI', {}, { uri: str }),
  connectIsSecure: signature(149, 'virConnectIsSecure', {}, { secure: i32 }),
  connectRegisterCloseCallback: signature(360, 'virConnectRegisterCloseCallback', {}, {}),
  connectUnregisterCloseCallback: signature(361, 'virConnectUnregisterCloseCallback', {}, {}),
  nodeGetInfo: signature(
    6,
    'virNodeGetInfo',
    {},
    {
      model: fixedArray(i32, 32),
      memory: u64,
      cpus: i32,
      mhz: i32,
      nodes: i32,
      sockets: i32,
      cores: i32,
      threads: i32,
    },
  ),
  connectGetCapabilities: signature(7, 'virConnectGetCapabilities', {}, { capabilities: str }),
  connectGetDomainCapabilities: signature(
    342,
    'virConnectGetDomainCapabilities',
    {
      emulatorbin: optional(str),
      arch: optional(str),
      machine: optional(str),
      virttype: optional(str),
      flags: u32,
    },
    { capabilities: str },
  ),
  connectGetSysinfo: signature(203, 'virConnectGetSysinfo', { flags: u32 }, { sysinfo: str }),
  connectGetMaxVcpus: signature(5, 'virConnectGetMaxVcpus', { type: optional(str) }, { max_vcpus: i32 }),
  nodeGetCpuMap: signature(
    293,
    'virNodeGetCPUMap',
    { need_map: i32, need_online: i32, flags: u32 },
    { cpumap: bytes(2048), online: u32, ret: i32 },
  ),
  nodeGetCpuStats: signature(
    227,
    'virNodeGetCPUStats',
    { cpuNum: i32, nparams: i32, flags: u32 },
    { params: array(nodeStat, 16), nparams: i32 },
  ),
  nodeGetMemoryStats: signature(
    228,
    'virNodeGetMemoryStats',
    { nparams: i32, cellNum: i32, flags: u32 },
    { params: array(nodeStat, 16), nparams: i32 },
  ),
  nodeGetFreeMemory: signature(102, 'virNodeGetFreeMemory', {}, { freeMem: u64 }),
} as const;
