import { dom, i32, optional, str, u32 } from '../types.ts';
import { signature } from './signature.ts';

export const saveSignatures = {
  domainSaveFlags: signature(
    232,
    'virDomainSaveFlags',
    { dom, to: str, dxml: optional(str), flags: u32 },
    {},
  ),
  domainRestoreFlags: signature(
    233,
    'virDomainRestoreFlags',
    { from: str, dxml: optional(str), flags: u32 },
    {},
  ),
  domainManagedSave: signature(182, 'virDomainManagedSave', { dom, flags: u32 }, {}),
  domainManagedSaveRemove: signature(184, 'virDomainManagedSaveRemove', { dom, flags: u32 }, {}),
  domainCoreDump: signature(53, 'virDomainCoreDump', { dom, to: str, flags: u32 }, {}),
  domainAbortJob: signature(164, 'virDomainAbortJob', { dom }, {}),
  domainRename: signature(
    358,
    'virDomainRename',
    { dom, new_name: optional(str), flags: u32 },
    { retcode: i32 },
  ),
} as const;
