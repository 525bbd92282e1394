import { array, dom, i32, optional, str, u32, u64 } from '../types.ts';
import { signature } from './signature.ts';

export const stateSignatures = {
  domainGetXmlDesc: signature(14, 'virDomainGetXMLDesc', { dom, flags: u32 }, { xml: str }),
  domainGetOsType: signature(19, 'virDomainGetOSType', { dom }, { type: str }),
  domainGetInfo: signature(
    16,
    'virDomainGetInfo',
    { dom },
    { state: i32, maxMem: u64, memory: u64, nrVirtCpu: i32, cpuTime: u64 },
  ),
  domainGetState: signature(212, 'virDomainGetState', { dom, flags: u32 }, { state: i32, reason: i32 }),
  domainIsActive: signature(150, 'virDomainIsActive', { dom }, { active: i32 }),
  domainIsPersistent: signature(151, 'virDomainIsPersistent', { dom }, { persistent: i32 }),
  domainIsUpdated: signature(202, 'virDomainIsUpdated', { dom }, { updated: i32 }),
  domainGetControlInfo: signature(
    229,
    'virDomainGetControlInfo',
    { dom, flags: u32 },
    { state: u32, details: u32, stateTime: u64 },
  ),
  domainGetMessages: signature(426, 'virDomainGetMessages', { dom, flags: u32 }, { msgs: array(str, 2048) }),
  domainHasManagedSaveImage: signature(
    183,
    'virDomainHasManagedSaveImage',
    { dom, flags: u32 },
    { result: i32 },
  ),
  domainSnapshotNum: signature(187, 'virDomainSnapshotNum', { dom, flags: u32 }, { num: i32 }),
  domainGetMetadata: signature(
    265,
    'virDomainGetMetadata',
    { dom, type: i32, uri: optional(str), flags: u32 },
    { metadata: str },
  ),
  domainSetMetadata: signature(
    264,
    'virDomainSetMetadata',
    { dom, type: i32, metadata: optional(str), key: optional(str), uri: optional(str), flags: u32 },
    {},
  ),
} as const;
