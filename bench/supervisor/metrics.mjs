/** What `bench supervisor` measures. */

/** @typedef {import('../lib/results.mjs').Metric} Metric */

/** @type {Metric} */
export const START = {
  id: 'supervised-start',
  title: "From the call of a defined VM's start to its guest's first byte",
  unit: 'ms',
  references: ['bin/tsvmm by itself'],
};

/** @type {Metric} */
export const FLEET = {
  id: 'fleet',
  title: 'What is done to all VMs, one after the other',
  unit: 'ms',
  references: [],
};

/** @type {Metric} */
export const MEMORY = {
  id: 'supervisor-memory',
  title: 'Private memory of tsvmmd',
  unit: 'MiB',
  references: [],
};

/** @type {Metric} */
export const WAKE_UPS = {
  id: 'supervisor-wake-ups',
  title: 'Context switches of tsvmmd in ten idle seconds',
  unit: 'times',
  references: [],
};

/** @type {Metric} */
export const VIRSH = { id: 'virsh-list', title: 'virsh list --all', unit: 'ms', references: ['5 VMs'] };

/** @type {Metric} */
export const RPC = {
  id: 'libvirt-calls',
  title: "DOMAIN_GET_INFO on one connection of libvirt's protocol, 64 at once",
  unit: 'calls/s',
  references: ['libvirtd, test:///default'],
};
