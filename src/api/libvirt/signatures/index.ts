/** The procedures of libvirt's `remote` program that the server or the client knows, by libvirt's names for them. */
import { connectSignatures } from './connect.ts';
import { consoleSignatures } from './console.ts';
import { devicesSignatures } from './devices.ts';
import { eventsSignatures } from './events.ts';
import { lifecycleSignatures } from './lifecycle.ts';
import { lookupSignatures } from './lookup.ts';
import { resourcesSignatures } from './resources.ts';
import { saveSignatures } from './save.ts';
import { stateSignatures } from './state.ts';

export const Remote = {
  ...connectSignatures,
  ...lookupSignatures,
  ...lifecycleSignatures,
  ...stateSignatures,
  ...resourcesSignatures,
  ...eventsSignatures,
  ...consoleSignatures,
  ...devicesSignatures,
  ...saveSignatures,
} as const;
