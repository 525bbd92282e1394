/** What every endpoint answers in every state of a VM, byte for byte as the reference does. */
import net from 'node:net';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { diskImage, PAYLOAD, Tsvmm, temporaryFolder, until } from './support.ts';

/** `bare` is a configuration without a payload, `shutDown` one of a VM that has run. */
const STATES = ['none', 'bare', 'created', 'running', 'paused', 'shutDown'] as const;
type State = (typeof STATES)[number];

interface Answer {
  readonly status: number;
  /** Undefined: neither that nor a length. */
  readonly body?: string | RegExp;
}
/** A state that is not here is answered as the one before it that a VM usually goes through; shut down as created. */
type Row = readonly [request: string, answers: Readonly<Partial<Record<State, Answer>>>];

const DONE: Answer = { status: 204 };
const SILENT: Answer = { status: 400, body: '' };
const BAD_REQUEST: Answer = { status: 400, body: '["Bad Request"]' };
const NOT_FOUND: Answer = { status: 404, body: '["Not Found"]' };

const LIMIT = 2n ** 63n + 1n;
/** Room for memory that comes later, above 2^32. */
const GROWTH = 2 ** 33;
const NOT_CREATED = 'VM is not created';
const CREATED = 'VM is already created';
const NOT_RUNNING = 'VM is not running';
const INVALID = 'Failed to validate config';
const NO_PAYLOAD = [INVALID, 'No bootitem provided: neither firmware nor kernel'];
const NOT_SHARED = 'is served by vhost-user, which needs --memory shared=on or hugepages=on';

const failure = (status: number, ...messages: readonly string[]): Answer => ({
  status,
  body: JSON.stringify(['Error from API', ...messages]),
});
const told = (body: RegExp): Answer => ({ status: 200, body });
const PLACED = told(/^\{"id":"_net[0-9]+","bdf":"0000:00:0[0-9]\.0"\}$/);
const info = (state: string) =>
  told(
    new RegExp(
      `^\\{"config":\\{.*"hotplug_size":${GROWTH},.*"bandwidth":\\{"size":${LIMIT},.*"state":"${state}",.*\\}$`,
    ),
  );

/** A call that needs a machine. */
const ofMachine = (request: string, title: string, running: Answer, paused = running): Row => [
  request,
  { none: failure(500, title, NOT_RUNNING), running, paused },
];
/** One that makes a VM. */
const making = (request: string, title: string, none: Answer): Row => [
  request,
  { none, bare: failure(500, title, CREATED) },
];
const adding = (kind: string, body: object, name: string, created = DONE, running?: Answer): Row => {
  const title = `The ${name} could not be added to the VM`;
  return [
    `PUT vm.add-${kind} ${JSON.stringify(body)}`,
    {
      none: failure(404, title, NOT_CREATED),
      bare: failure(400, title, ...NO_PAYLOAD),
      created,
      running:
        running ??
        (created === DONE
          ? failure(500, title, `Adding a ${name} to a running VM is not supported yet`)
          : created),
    },
  ];
};
const resizing = (body: object | string, created: Answer, running: Answer): Row => [
  `PUT vm.resize ${typeof body === 'string' ? body : JSON.stringify(body)}`,
  { none: failure(404, 'The VM could not be resized', NOT_CREATED), bare: created, running },
];
const RESIZED = 'The VM could not be resized';
const DISK_RESIZED = 'The disk could not be resized';
const ZONE_RESIZED = 'The memory zone could not be resized';
const REMOVED = 'The device could not be removed from the VM';
const INFO = 'The VM info is not available';

const invalidTransition = (title: string, verb: string, state: string) =>
  failure(
    500,
    title,
    `Cannot ${verb} VM`,
    `Failed to ${verb} migratable component`,
    `Invalid transition: InvalidStateTransition(${state}, ${state})`,
  );

const rows: readonly Row[] = [
  [
    'GET vmm.ping',
    { none: told(/^\{"build_version":"tsvmm-v[^"]+","version":"54.0.0","pid":\d+,"features":\["kvm"\]\}$/) },
  ],
  [
    'GET vm.info',
    {
      none: failure(404, INFO, NOT_CREATED),
      bare: info('Created'),
      running: info('Running'),
      paused: info('Paused'),
    },
  ],
  ofMachine('GET vm.counters', INFO, told(/^\{"d0":\{"read_bytes":.*\}\}$/)),

  ['PUT vm.create', { none: SILENT }],
  ['PUT vm.create {', { none: { status: 400, body: /^\["Failed to deserialize JSON","[^"]+"\]$/ } }],
  making('PUT vm.create {"memory":{"size":1}}', 'The VM could not be created', DONE),
  ['PUT vm.delete', { none: DONE }],
  [
    'PUT vm.boot',
    {
      none: failure(404, 'The VM could not boot', 'VM config is missing'),
      bare: failure(400, 'The VM could not boot', ...NO_PAYLOAD),
      created: DONE,
      running: failure(500, 'The VM could not boot', CREATED),
    },
  ],
  ['PUT vm.boot {}', { none: BAD_REQUEST }],
  ofMachine('PUT vm.shutdown', 'The VM could not shutdown', DONE),
  ['PUT vm.reboot', { none: failure(404, 'The VM could not reboot', NOT_CREATED), running: DONE }],
  ofMachine(
    'PUT vm.pause',
    'The VM could not be paused',
    DONE,
    invalidTransition('The VM could not be paused', 'pause', 'Paused'),
  ),
  ofMachine(
    'PUT vm.resume',
    'The VM could not resume',
    invalidTransition('The VM could not resume', 'resume', 'Running'),
    DONE,
  ),
  ofMachine('PUT vm.power-button', 'Error triggering power button', DONE),
  ofMachine('PUT vm.nmi', 'Error triggering NMI', DONE),

  ['PUT vm.resize', { none: BAD_REQUEST }],
  resizing({}, DONE, DONE),
  resizing({ desired_vcpus: 1 }, DONE, DONE),
  resizing({ desired_vcpus: 2 }, DONE, failure(500, RESIZED, '2 vCPUs are more than cpus.max_vcpus (1)')),
  resizing({ desired_balloon: 0 }, DONE, failure(500, RESIZED, 'The VM has no balloon')),
  resizing(
    `{"desired_ram":${LIMIT}}`,
    DONE,
    failure(500, RESIZED, `The memory: the size ${LIMIT} is not a multiple of 4096 bytes`),
  ),
  [
    `PUT vm.resize-disk {"id":"d0","desired_size":${LIMIT - 1n}}`,
    {
      none: failure(404, DISK_RESIZED, NOT_CREATED),
      bare: failure(500, DISK_RESIZED, 'Failed resizing a disk image', NOT_RUNNING),
      running: failure(
        500,
        DISK_RESIZED,
        'Failed resizing a disk image',
        `The size ${LIMIT - 1n} is more than any image can have`,
      ),
    },
  ],
  [
    'PUT vm.resize-disk {"id":"nope","desired_size":512}',
    {
      none: failure(404, DISK_RESIZED, NOT_CREATED),
      bare: failure(500, DISK_RESIZED, 'Failed resizing a disk image', NOT_RUNNING),
      running: failure(404, DISK_RESIZED, 'Failed resizing a disk image', 'There is no disk with id "nope"'),
    },
  ],
  [
    'PUT vm.resize-zone {"id":"nope","desired_ram":512}',
    {
      none: failure(404, ZONE_RESIZED, NOT_CREATED),
      bare: failure(
        500,
        ZONE_RESIZED,
        'Failed resizing a memory zone',
        'There is no memory zone with id "nope"',
      ),
    },
  ],

  ['PUT vm.add-disk', { none: BAD_REQUEST }],
  adding(
    'disk',
    { path: '/nope', image_type: 'Raw' },
    'disk',
    DONE,
    failure(
      500,
      'The disk could not be added to the VM',
      'Cannot open disk path /nope',
      'opening /nope: No such file or directory',
    ),
  ),
  adding('net', {}, 'network device', DONE, PLACED),
  adding(
    'pmem',
    { file: '/nope' },
    'pmem device',
    DONE,
    failure(
      500,
      'The pmem device could not be added to the VM',
      'Cannot use the persistent memory /nope',
      'opening /nope: No such file or directory',
    ),
  ),
  adding(
    'pmem',
    { file: '/nope', id: 'd0' },
    'pmem device',
    failure(409, 'The pmem device could not be added to the VM', INVALID, 'Identifier d0 is not unique'),
  ),
  adding(
    'fs',
    { tag: 't', socket: '/s' },
    'fs',
    failure(400, 'The fs could not be added to the VM', INVALID, `The file system t ${NOT_SHARED}`),
  ),
  adding(
    'generic-vhost-user',
    { socket: '/g', device_type: 8, queue_sizes: [128] },
    'generic vhost-user device',
    failure(
      400,
      'The generic vhost-user device could not be added to the VM',
      INVALID,
      `The vhost-user device /g ${NOT_SHARED}`,
    ),
  ),
  adding(
    'vsock',
    { cid: 3, socket: '/nope/s' },
    'vsock device',
    DONE,
    failure(
      500,
      'The vsock device could not be added to the VM',
      "Cannot listen on the vsock's socket /nope/s",
      'cannot open the lock file: opening /nope/s.lock: No such file or directory',
    ),
  ),
  adding('vdpa', { path: '/nope', num_queues: 1 }, 'vDPA device'),
  adding('device', { path: '/nope' }, 'device'),
  adding(
    'user-device',
    { socket: '/s' },
    'user device',
    failure(
      400,
      'The user device could not be added to the VM',
      INVALID,
      'The vfio-user device /s needs --memory shared=on or hugepages=on',
    ),
  ),
  [
    'PUT vm.remove-device {"id":"nope"}',
    {
      none: failure(404, REMOVED, NOT_CREATED),
      bare: failure(404, REMOVED, 'No device with id "nope" to remove'),
    },
  ],
  [
    'PUT vm.remove-device {"id":"d0"}',
    {
      none: failure(404, REMOVED, NOT_CREATED),
      bare: DONE,
    },
  ],

  ofMachine(
    'PUT vm.snapshot {"destination_url":"file:///nope"}',
    'The VM could not be snapshotted',
    failure(500, 'The VM could not be snapshotted', 'Trying to snapshot while VM is running'),
    failure(500, 'The VM could not be snapshotted', 'Taking a snapshot is not supported yet'),
  ),
  ofMachine(
    'PUT vm.coredump {"destination_url":"file:///nope/core"}',
    'The VM could not be coredumped',
    failure(500, 'The VM could not be coredumped', 'Writing a core dump is not supported yet'),
  ),
  ofMachine(
    'PUT vm.send-migration {"destination_url":"unix:/nope"}',
    'Error dispatching the migration worker',
    failure(500, 'Error dispatching the migration worker', 'Migrating a VM is not supported yet'),
  ),
  making(
    'PUT vm.restore {"source_url":"file:///nope"}',
    'The VM could not be restored',
    failure(500, 'The VM could not be restored', 'Restoring a snapshot is not supported yet'),
  ),
  making(
    'PUT vm.receive-migration {"receiver_url":"unix:/nope/s"}',
    'Error receiving migration',
    failure(500, 'Error receiving migration', 'Migrating a VM is not supported yet'),
  ),

  ['PATCH vm.boot', { none: SILENT }],
  ['DELETE vm.add-disk', { none: SILENT }],
  ['DELETE vm.counters', { none: SILENT }],
  ['DELETE vm.create', { none: BAD_REQUEST }],
  ['PATCH vm.info', { none: BAD_REQUEST }],
  ['GET vm.resize', { none: BAD_REQUEST }],
  ['GET vmm.shutdown', { none: BAD_REQUEST }],
  ['PUT vm.nope', { none: NOT_FOUND }],
];

function expected([, answers]: Row, state: State): Answer {
  const from = state === 'shutDown' ? 'created' : state;
  const found = STATES.slice(0, STATES.indexOf(from) + 1).findLast((one) => answers[one] !== undefined);
  return answers[found as State] as Answer;
}

/** As the reference writes it: no reason, and these headers in this order. */
function bytesOf(status: number, body?: string): string {
  const head = `HTTP/1.1 ${status} \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n`;
  if (body === undefined) return `${head}\r\n`;
  return `${head}Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}

/** @returns the bytes of the answer */
type Ask = (request: string) => Promise<string>;

/** Asks on a connection that is kept. */
function connection(address: string): Ask {
  const socket = net.connect(address);
  onTestFinished(() => {
    socket.destroy();
  });
  let text = '';
  socket.setEncoding('utf8').on('data', (more: string) => {
    text += more;
  });
  const isWhole = () => {
    const end = text.indexOf('\r\n\r\n');
    const length = Number(/^Content-Length: (\d+)/m.exec(text)?.[1] ?? 0);
    return end >= 0 && Buffer.byteLength(text) >= end + 4 + length;
  };
  return async (request) => {
    const [method = '', name = '', ...rest] = request.split(' ');
    const body = rest.join(' ');
    text = '';
    socket.write(`${method} /api/v1/${name} HTTP/1.1\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    await until(isWhole, () => `the answer to ${request} is ${JSON.stringify(text)}`);
    return text;
  };
}

/** Makes the VM anew, whatever it was. */
async function enter(ask: Ask, state: State, disk: string): Promise<void> {
  const bandwidth = `{"size":${LIMIT},"refill_time":1}`;
  const disks = `[{"id":"d0","path":"${disk}","image_type":"Raw","rate_limiter_config":{"bandwidth":${bandwidth}}}]`;
  const payload = state === 'bare' ? '' : `"payload":{"kernel":"${PAYLOAD}","cmdline":"run=idle"},`;
  const memory = `"memory":{"size":4194304,"hotplug_size":${GROWTH}}`;
  const config = `{${payload}${memory},"disks":${disks},"serial":{"mode":"Null"},"console":{"mode":"Off"}}`;
  const steps = { none: 0, bare: 1, created: 1, running: 2, paused: 3, shutDown: 3 }[state];
  const last = state === 'shutDown' ? 'PUT vm.shutdown' : 'PUT vm.pause';
  for (const step of ['PUT vm.delete', `PUT vm.create ${config}`, 'PUT vm.boot', last].slice(0, steps + 1)) {
    expect(`${step}: ${await ask(step)}`).toBe(`${step}: ${bytesOf(204)}`);
  }
}

test.each(STATES)('%s', async (state) => {
  const folder = temporaryFolder();
  const disk = diskImage(folder, 'disk.img');
  const socket = path.join(folder, 'api');
  const vmm = new Tsvmm(['--api-socket', `path=${socket}`]);
  await vmm.ready();
  const ask = connection(socket);
  // The streams never end, and the document is no call of the reference's.
  const calls = Object.keys((await vmm.api('GET', 'openapi.json')).json.paths)
    .map((name) => name.replace('/api/v1/', ''))
    .filter((name) => !['openapi.json', 'vm.events', '/metrics', 'vmm.shutdown'].includes(name));
  const asked = rows.map(([request]) => request.split(' ')[1]);
  expect(calls.filter((name) => !asked.includes(name))).toEqual([]);
  await enter(ask, state, disk);
  for (const row of rows) {
    const [request] = row;
    const { status, body } = expected(row, state);
    const answer = await ask(request);
    if (body instanceof RegExp) {
      const given = answer.slice(answer.indexOf('\r\n\r\n') + 4);
      expect(given, request).toMatch(body);
      expect(answer, request).toBe(bytesOf(status, given));
    } else {
      expect(answer, request).toBe(bytesOf(status, body));
    }
    if (status === 204 || (status === 200 && request.startsWith('PUT '))) await enter(ask, state, disk);
  }
  expect(await ask('PUT vmm.shutdown')).toBe(bytesOf(200, ''));
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  expect(vmm.stderr).toBe('');
});
