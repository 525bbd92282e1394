/**
 * Every kind of device that a machine has on its PCI bus, in the order in which guests find them: numbers on the bus
 * are handed out in this order, and existing guests know their devices by them. A new kind is a line at the end.
 */
import { balloon } from './balloon.ts';
import { consoleDevice } from './console.ts';
import { disk } from './disk.ts';
import { fs } from './fs.ts';
import { genericVhostUser } from './genericVhostUser.ts';
import { iommu } from './iommu.ts';
import { ivshmem } from './ivshmem.ts';
import { mem } from './mem.ts';
import { net } from './net.ts';
import { pmem } from './pmem.ts';
import { pvpanic } from './pvpanic.ts';
import { rng } from './rng.ts';
import { rtc } from './rtc.ts';
import { vdpa } from './vdpa.ts';
import { vfio } from './vfio.ts';
import { vfioUser } from './vfioUser.ts';
import { vsock } from './vsock.ts';
import { watchdog } from './watchdog.ts';

export const deviceList = [
  consoleDevice,
  disk,
  net,
  rng,
  pmem,
  vsock,
  mem,
  balloon,
  watchdog,
  rtc,
  iommu,
  pvpanic,
  fs,
  genericVhostUser,
  vdpa,
  vfio,
  vfioUser,
  ivshmem,
] as const;
