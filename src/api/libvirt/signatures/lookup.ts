import { array, dom, i32, str, u32, uuid } from '../types.ts';
import { signature } from './signature.ts';

export const lookupSignatures = {
  connectListAllDomains: signature(
    273,
    'virConnectListAllDomains',
    { need_results: i32, flags: u32 },
    { domains: array(dom, 16_384), ret: u32 },
  ),
  connectNumOfDomains: signature(51, 'virConnectNumOfDomains', {}, { num: i32 }),
  connectListDomains: signature(37, 'virConnectListDomains', { maxids: i32 }, { ids: array(i32, 16_384) }),
  connectNumOfDefinedDomains: signature(25, 'virConnectNumOfDefinedDomains', {}, { num: i32 }),
  connectListDefinedDomains: signature(
    21,
    'virConnectListDefinedDomains',
    { maxnames: i32 },
    { names: array(str, 16_384) },
  ),
  domainLookupById: signature(22, 'virDomainLookupByID', { id: i32 }, { dom }),
  domainLookupByName: signature(23, 'virDomainLookupByName', { name: str }, { dom }),
  domainLookupByUuid: signature(24, 'virDomainLookupByUUID', { uuid }, { dom }),
} as const;
