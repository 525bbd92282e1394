/** What `bench hotplug` measures. */

/** @typedef {import('../lib/results.mjs').Metric} Metric */

const VMMS = ['cloud-hypervisor', 'baseline'];

/** How many disks at both ends of a series are compared. */
export const FEW = 5;

/** @type {Metric} */
export const ADD = {
  id: 'add-disk',
  title: 'vm.add-disk answered, the guest halted',
  unit: 'ms',
  references: VMMS,
};

/** @type {Metric} */
export const FIRST = {
  id: 'add-disk-first',
  title: `The same, the first ${FEW} disks of a machine`,
  unit: 'ms',
  references: VMMS,
};

/** @type {Metric} */
export const LAST = {
  id: 'add-disk-last',
  title: `The same, the last ${FEW} for which the machine has room`,
  unit: 'ms',
  references: VMMS,
};

/** @type {Metric} */
export const GROWTH = {
  id: 'add-disk-growth',
  title: 'The last of them as a multiple of the first, medians of each round',
  unit: 'times',
  references: VMMS,
};

/** @type {Metric} */
export const RESIZE_VCPUS = {
  id: 'resize-vcpus',
  title: 'vm.resize answered, one vCPU more, the guest halted',
  unit: 'ms',
  references: VMMS,
};

/** @type {Metric} */
export const RESIZE_MEMORY = {
  id: 'resize-memory',
  title: 'vm.resize answered, 128 MiB more (ACPI), the guest halted',
  unit: 'ms',
  references: VMMS,
};

/** @type {Metric} */
export const ADD_BESIDE = {
  id: 'add-disk-beside',
  title: 'vm.add-disk answered while the guest reads another disk',
  unit: 'ms',
  references: VMMS,
};

/** @type {Metric} */
export const LONGEST_ALONE = {
  id: 'longest-read-alone',
  title: 'The longest read of a disk, 4 KiB each 100 us, while nothing is added',
  unit: 'us',
  references: VMMS,
};

/** @type {Metric} */
export const LONGEST_BESIDE = {
  id: 'longest-read-beside',
  title: 'The same while disks are added',
  unit: 'us',
  references: VMMS,
};

/** @type {Metric} */
export const SLOT = {
  id: 'memory-slot',
  title: 'Registering 128 MiB of memory, the bare KVM call',
  unit: 'ms',
  references: ['before there is a vCPU'],
};
