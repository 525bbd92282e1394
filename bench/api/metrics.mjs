/** What `bench api` measures. */

const VMMS = ['cloud-hypervisor', 'baseline'];
const LIBRARIES = ['tsvmm library, Node.js', 'tsvmm library, Bun'];

/** Clients at once in the second figure of each endpoint. */
export const MANY = 64;

/** What is done to the VM while it is asked for, and what that is called. */
const STATES = {
  running: '',
  waiting: ', while a removal waits for the guest',
  changing: ', while the VM is paused, resumed and rebooted',
};

/** @typedef {keyof typeof STATES} State */
/** @typedef {import('../lib/results.mjs').Metric} Metric */

/**
 * @typedef {object} LoadMetrics
 * @property {Metric} rate
 * @property {Metric} late 99 of 100 answers came sooner
 * @property {Metric} [changes] of the VM meanwhile
 */

/**
 * @param {string} endpoint
 * @param {number} clients
 * @param {State} state of the VM
 * @returns {LoadMetrics}
 */
function loadMetrics(endpoint, clients, state) {
  const who = clients === 1 ? 'one client' : `${clients} clients at once`;
  const when = STATES[state];
  const id = `${endpoint}-${clients}-${state}`;
  return {
    rate: {
      id: `${id}-rate`,
      title: `GET ${endpoint}, ${who}${when}`,
      unit: 'answers a second',
      references: VMMS,
    },
    late: {
      id: `${id}-p99`,
      title: `GET ${endpoint}, ${who}${when}: 99 of 100 answers within`,
      unit: 'us',
      references: VMMS,
    },
    ...(state === 'changing' && {
      changes: {
        id: `${id}-changes`,
        title: `Changes of a VM, ${who} asking for ${endpoint}`,
        unit: 'changes a second',
        references: VMMS,
      },
    }),
  };
}

/** @typedef {{endpoint: string, clients: number, state: State, metrics: LoadMetrics}} Load */

/** @type {readonly Load[]} */
export const LOADS = ['vmm.ping', 'vm.info', 'vm.counters'].flatMap((endpoint) =>
  [1, MANY].flatMap((clients) =>
    /** @type {State[]} */ (Object.keys(STATES)).map((state) => ({
      endpoint,
      clients,
      state,
      metrics: loadMetrics(endpoint, clients, state),
    })),
  ),
);

/** @type {Metric} */
export const FIRST_BOOT = {
  id: 'create-and-boot-first',
  title:
    'From vm.create to the answer to vm.boot, the first time in a process, and by the library in such a process',
  unit: 'ms',
  references: [...VMMS, ...LIBRARIES],
};

/** @type {Metric} */
export const CREATE_AND_BOOT = {
  id: 'create-and-boot',
  title: 'The same in a process that has done it before, and by the library in such a process',
  unit: 'ms',
  references: [...VMMS, ...LIBRARIES],
};
