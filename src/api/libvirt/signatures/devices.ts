import { array, dom, i32, i64, optional, str, struct, u32, u64 } from '../types.ts';
import { signature } from './signature.ts';

const MAX_INTERFACES = 2048;
const MAX_ADDRESSES = 2048;

const address = struct({ type: i32, addr: str, prefix: u32 });
const domainInterface = struct({ name: str, hwaddr: optional(str), addrs: array(address, MAX_ADDRESSES) });

export const devicesSignatures = {
  domainAttachDevice: signature(8, 'virDomainAttachDevice', { dom, xml: str }, {}),
  domainAttachDeviceFlags: signature(160, 'virDomainAttachDeviceFlags', { dom, xml: str, flags: u32 }, {}),
  domainDetachDevice: signature(13, 'virDomainDetachDevice', { dom, xml: str }, {}),
  domainDetachDeviceFlags: signature(161, 'virDomainDetachDeviceFlags', { dom, xml: str, flags: u32 }, {}),
  domainDetachDeviceAlias: signature(392, 'virDomainDetachDeviceAlias', { dom, alias: str, flags: u32 }, {}),
  domainUpdateDeviceFlags: signature(174, 'virDomainUpdateDeviceFlags', { dom, xml: str, flags: u32 }, {}),
  domainInterfaceStats: signature(
    65,
    'virDomainInterfaceStats',
    { dom, device: str },
    {
      rx_bytes: i64,
      rx_packets: i64,
      rx_errs: i64,
      rx_drop: i64,
      tx_bytes: i64,
      tx_packets: i64,
      tx_errs: i64,
      tx_drop: i64,
    },
  ),
  domainInterfaceAddresses: signature(
    353,
    'virDomainInterfaceAddresses',
    { dom, source: u32, flags: u32 },
    { ifaces: array(domainInterface, MAX_INTERFACES) },
  ),
  domainBlockResize: signature(251, 'virDomainBlockResize', { dom, disk: str, size: u64, flags: u32 }, {}),
} as const;
