import { dom, i32, i64, str, u32, u64 } from '../types.ts';
import { signature } from './signature.ts';

export const lifecycleSignatures = {
  domainDefineXml: signature(11, 'virDomainDefineXML', { xml: str }, { dom }),
  domainDefineXmlFlags: signature(350, 'virDomainDefineXMLFlags', { xml: str, flags: u32 }, { dom }),
  domainCreateXml: signature(10, 'virDomainCreateXML', { xml: str, flags: u32 }, { dom }),
  domainCreate: signature(9, 'virDomainCreate', { dom }, {}),
  domainCreateWithFlags: signature(196, 'virDomainCreateWithFlags', { dom, flags: u32 }, { dom }),
  domainUndefine: signature(35, 'virDomainUndefine', { dom }, {}),
  domainUndefineFlags: signature(231, 'virDomainUndefineFlags', { dom, flags: u32 }, {}),
  domainShutdown: signature(33, 'virDomainShutdown', { dom }, {}),
  domainShutdownFlags: signature(258, 'virDomainShutdownFlags', { dom, flags: u32 }, {}),
  domainReboot: signature(27, 'virDomainReboot', { dom, flags: u32 }, {}),
  domainReset: signature(245, 'virDomainReset', { dom, flags: u32 }, {}),
  domainDestroy: signature(12, 'virDomainDestroy', { dom }, {}),
  domainDestroyFlags: signature(234, 'virDomainDestroyFlags', { dom, flags: u32 }, {}),
  domainSuspend: signature(34, 'virDomainSuspend', { dom }, {}),
  domainResume: signature(28, 'virDomainResume', { dom }, {}),
  domainGetAutostart: signature(15, 'virDomainGetAutostart', { dom }, { autostart: i32 }),
  domainSetAutostart: signature(29, 'virDomainSetAutostart', { dom, autostart: i32 }, {}),
  domainInjectNmi: signature(210, 'virDomainInjectNMI', { dom, flags: u32 }, {}),
  domainGetHostname: signature(277, 'virDomainGetHostname', { dom, flags: u32 }, { hostname: str }),
  domainGetTime: signature(337, 'virDomainGetTime', { dom, flags: u32 }, { seconds: i64, nseconds: u32 }),
  domainSetMaxMemory: signature(30, 'virDomainSetMaxMemory', { dom, memory: u64 }, {}),
} as const;
