/** What `bench start` measures. */

const VMMS = ['firecracker', 'cloud-hypervisor'];
const FLOORS = ['KVM calls alone', 'empty Bun executable', 'node -e 0'];

/** @typedef {import('../lib/results.mjs').Metric} Metric */

/** @type {Metric} */
export const FIRST_BYTE = {
  id: 'first-byte',
  title: "From exec to the guest's first byte on the serial port",
  unit: 'ms',
  references: [...VMMS, ...FLOORS],
};

/** @type {Metric} */
export const FIRST_BYTE_API = {
  id: 'first-byte-api',
  title: "From exec to the guest's first byte, with a control socket open",
  unit: 'ms',
  references: VMMS,
};

/** @type {Metric} */
export const LIBRARY_FIRST_BYTE = {
  id: 'library-first-byte',
  title: "From a library call in a running process to the guest's first byte",
  unit: 'ms',
  references: [],
};

/** @type {Metric} */
export const EXIT = {
  id: 'power-off-to-exit',
  title: "From the guest's power-off (its last byte) to the end of the process",
  unit: 'ms',
  references: VMMS,
};

/** @type {Metric} */
export const CPU_TIME = {
  id: 'cpu-time',
  title: 'CPU time of a whole run, vCPU included',
  unit: 'ms',
  references: VMMS,
};

/** @type {Metric} */
export const ANONYMOUS = {
  id: 'anonymous-memory',
  title: "Private anonymous memory without the guest's, guest running, control socket open",
  unit: 'MiB',
  references: VMMS,
};

/** @type {Metric} */
export const PRIVATE_DIRTY = {
  id: 'private-dirty-memory',
  title: "Private dirty memory without the guest's, guest running, control socket open",
  unit: 'MiB',
  references: VMMS,
};

/** @type {Metric} */
export const FURTHER_VM = {
  id: 'memory-of-a-further-vm',
  title: 'Private anonymous memory of each further VM in one process',
  unit: 'MiB',
  references: [],
};

/** @type {Metric} */
export const WAKE_UPS = {
  id: 'idle-wake-ups',
  title: 'Context switches in ten seconds, all threads, idle guest, control socket open',
  unit: 'count',
  references: [],
};

/** @type {Metric} */
export const THREADS = {
  id: 'threads',
  title: 'Threads with a guest running and a control socket open',
  unit: 'count',
  references: [],
};

export const NANOSECONDS_PER_MS = 1e6;
export const BYTES_PER_MIB = 1 << 20;
