import { dom, optional, str, u32 } from '../types.ts';
import { signature } from './signature.ts';

export const consoleSignatures = {
  domainOpenConsole: signature(201, 'virDomainOpenConsole', { dom, dev_name: optional(str), flags: u32 }, {}),
  domainOpenChannel: signature(296, 'virDomainOpenChannel', { dom, name: optional(str), flags: u32 }, {}),
} as const;
