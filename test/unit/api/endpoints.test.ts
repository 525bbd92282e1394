import { describe, expect, it } from 'vitest';
import { Descriptors } from '../../../src/api/rest/descriptors.ts';
import { answerRequest, listEndpoints } from '../../../src/api/rest/endpoints.ts';
import type { Method } from '../../../src/api/rest/httpRequest.ts';
import { ConfigError } from '../../../src/config/configError.ts';
import { vmConfig } from '../../../src/config/vmConfig.ts';
import { FileKind } from '../../../src/host/openFlags.ts';
import { VmmError } from '../../../src/vmm/errors.ts';
import { nodeFiles } from '../support/nodeFiles.ts';
import { fakeVmm } from './support.ts';

async function ask(method: Method, path: string, body = '', vmm = fakeVmm()) {
  const { status, body: text } = await answerRequest(
    vmm,
    {
      method,
      path: path.startsWith('/') ? path : `/api/v1/${path}`,
      body: new Uint8Array(Buffer.from(body)),
    },
    new Descriptors(nodeFiles()),
  );
  return { status, body: text === '' ? '' : JSON.parse(text), text, vmm };
}

const actions = [
  ['vm.boot', 'boot'],
  ['vm.delete', 'delete'],
  ['vm.shutdown', 'shutdown'],
  ['vm.reboot', 'reboot'],
  ['vm.pause', 'pause'],
  ['vm.resume', 'resume'],
  ['vm.power-button', 'powerButton'],
  ['vm.nmi', 'nmi'],
] as const;

describe('actions', () => {
  it.each(actions)('%s', async (path, method) => {
    const answer = await ask('PUT', path);
    expect([answer.status, answer.text]).toEqual([204, '']);
    expect(answer.vmm[method]).toHaveBeenCalledTimes(1);
  });

  it.each(actions)('%s refuses a body and other methods', async (path, method) => {
    const vmm = fakeVmm();
    expect(await ask('PUT', path, '{}', vmm)).toMatchObject({ status: 400, body: ['Bad Request'] });
    expect(await ask('GET', path, '', vmm)).toMatchObject({ status: 400, body: ['Bad Request'] });
    expect(await ask('PATCH', path, '', vmm)).toMatchObject({ status: 400, text: '' });
    expect(await ask('DELETE', path, '', vmm)).toMatchObject({ status: 400, text: '' });
    expect(vmm[method]).not.toHaveBeenCalled();
  });

  it('vmm.shutdown answers 200 with nothing, with a body too', async () => {
    expect(await ask('PUT', 'vmm.shutdown')).toMatchObject({ status: 200, text: '' });
    expect(await ask('PUT', 'vmm.shutdown', '{}')).toMatchObject({ status: 200, text: '' });
    expect(await ask('DELETE', 'vmm.shutdown')).toMatchObject({ status: 400, body: ['Bad Request'] });
  });
});

describe('questions', () => {
  it('vmm.ping', async () => {
    const { status, body } = await ask('GET', 'vmm.ping', 'ignored');
    expect(status).toBe(200);
    expect(body).toEqual({
      build_version: expect.stringMatching(/^tsvmm-v\d+\.\d+\.\d+/),
      version: '54.0.0',
      pid: process.pid,
      features: ['kvm'],
    });
  });

  it('openapi.json is the document of this very API', async () => {
    const { status, body } = await ask('GET', 'openapi.json');
    expect([status, body.openapi]).toEqual([200, '3.0.3']);
    expect(Object.keys(body.paths)).toEqual(listEndpoints().map(({ path }) => path));
  });

  it('vm.info', async () => {
    const { status, body } = await ask('GET', 'vm.info');
    expect([status, body.state, body.memory_actual_size]).toEqual([200, 'Created', 4096]);
    expect(body.config.serial).toEqual({ mode: 'Null' });
  });

  it('vm.resize takes sizes, absent or null ones too', async () => {
    const sizes = { desired_vcpus: 4, desired_ram: null, desired_balloon: 0 };
    const answer = await ask('PUT', 'vm.resize', JSON.stringify(sizes));
    expect([answer.status, answer.text]).toEqual([204, '']);
    expect(answer.vmm.resize).toHaveBeenCalledWith({ desired_vcpus: 4, desired_balloon: 0 }, {});
    expect(await ask('PUT', 'vm.resize', '{"desired_balloon":-1}')).toMatchObject({ status: 400 });
    expect(await ask('PUT', 'vm.resize')).toMatchObject({ status: 400 });
  });

  it('vm.counters keeps 64 bits', async () => {
    const { status, text } = await ask('GET', 'vm.counters');
    expect([status, text]).toEqual([200, '{"_disk0":{"read_latency_min":18446744073709551615}}']);
  });

  it.each(['vmm.ping', 'vm.info'])('%s answers other methods with a message', async (path) => {
    for (const method of ['PUT', 'PATCH', 'DELETE'] as const) {
      expect(await ask(method, path)).toMatchObject({ status: 400, body: ['Bad Request'] });
    }
  });

  it('vm.counters answers some without', async () => {
    expect(await ask('PATCH', 'vm.counters')).toMatchObject({ status: 400, text: '' });
    expect(await ask('PUT', 'vm.counters')).toMatchObject({ status: 400, body: ['Bad Request'] });
  });
});

describe('paths', () => {
  it.each([
    '/',
    '/api/v1/',
    '/api/v1/vm.info?x',
    '/api/v1/vm.info/',
    '/api/v1/VM.info',
    '/api/v1/vm.add-disks',
    '/api/v1/vm.add-',
    '/api/v1/constructor',
    '/api/v1//api/v1/vm.info',
    'http:/api/v1/vm.info',
  ])('%s is unknown', async (path) => {
    const vmm = fakeVmm();
    const request = { method: 'GET', path, body: new Uint8Array() } as const;
    const answer = await answerRequest(vmm, request, new Descriptors(nodeFiles()));
    expect(answer).toEqual({ status: 404, body: '["Not Found"]' });
  });

  it('are listed for documentation', () => {
    expect(listEndpoints()).toHaveLength(34);
    expect(listEndpoints()).toContainEqual({ path: '/api/v1/vm.create', method: 'PUT', body: vmConfig });
  });
});

describe('vm.create', () => {
  it('hands over a complete configuration', async () => {
    const { status, vmm } = await ask('PUT', 'vm.create', '{"payload":{"kernel":"/k"},"unknown":[1]}');
    expect(status).toBe(204);
    const config = vmm.create.mock.calls[0]?.[0];
    expect([config?.payload?.kernel, config?.cpus.boot_vcpus]).toEqual(['/k', 1]);
  });

  it('without a body is a silent 400', async () => {
    expect(await ask('PUT', 'vm.create')).toMatchObject({ status: 400, text: '' });
    expect(await ask('GET', 'vm.create')).toMatchObject({ status: 400, body: ['Bad Request'] });
  });

  it.each([
    ['{', 'key must be a string at line 1 column 1'],
    ['{"cpus":{"boot_vcpus":1}}', 'cpus: missing field `max_vcpus`'],
    ['{"watchdog":1}', 'watchdog: invalid type: number `1`, expected a boolean'],
    [
      '{"memory":{"size":268435456.0}}',
      'memory.size: invalid type: floating point `268435456`, expected an integer',
    ],
    ['{"watchdog":true,"watchdog":true}', 'duplicate field `watchdog` at line 1 column 27'],
    ['\xff', 'expected value at line 1 column 1'],
  ])('refuses %s', async (text, message) => {
    const { status, body, vmm } = await ask('PUT', 'vm.create', text);
    expect([status, body]).toEqual([400, ['Failed to deserialize JSON', message]]);
    expect(vmm.create).not.toHaveBeenCalled();
  });

  it('refuses bytes that are not UTF-8', async () => {
    const answer = await answerRequest(
      fakeVmm(),
      {
        method: 'PUT',
        path: '/api/v1/vm.create',
        body: Uint8Array.of(0x22, 0xff, 0x22),
      },
      new Descriptors(nodeFiles()),
    );
    expect(answer).toEqual({
      status: 400,
      body: '["Failed to deserialize JSON","invalid unicode code point"]',
    });
  });

  it('takes no descriptors by their numbers: they are of another process', async () => {
    const { vmm } = await ask('PUT', 'vm.create', '{"net":[{"fds":[3]}]}');
    const net = vmm.create.mock.calls[0]?.[0]?.net?.[0];
    expect(net).toMatchObject({ num_queues: 2 });
    expect(net).not.toHaveProperty('fds');
  });

  it('takes what no machine has yet: that is refused at boot', async () => {
    const { status, vmm } = await ask('PUT', 'vm.create', '{"fs":[{"tag":"t","socket":"/s"}]}');
    expect(status).toBe(204);
    expect(vmm.create.mock.calls[0]?.[0]?.fs).toMatchObject([{ tag: 't', socket: '/s', queue_size: 1024 }]);
  });
});

describe('vm.resize-disk', () => {
  it('hands over what to resize', async () => {
    const { status, text, vmm } = await ask(
      'PUT',
      'vm.resize-disk',
      '{"id":"_disk0","desired_size":1048576}',
    );
    expect([status, text]).toEqual([204, '']);
    expect(vmm.resizeDisk).toHaveBeenCalledExactlyOnceWith('_disk0', 1_048_576);
  });

  it.each([
    ['{"id":"d"}', 'missing field `desired_size`'],
    ['{"desired_size":512}', 'missing field `id`'],
    ['{"id":"d","desired_size":"1G"}', 'desired_size: invalid type: string "1G", expected an integer'],
    ['{"id":"d","desired_size":-512}', 'desired_size: invalid value -512, expected an integer from 0 to'],
  ])('refuses %s', async (text, message) => {
    const { status, body, vmm } = await ask('PUT', 'vm.resize-disk', text);
    expect([status, body[0], body[1]]).toEqual([
      400,
      'Failed to deserialize JSON',
      expect.stringContaining(message),
    ]);
    expect(vmm.resizeDisk).not.toHaveBeenCalled();
  });

  it('needs a body, and PUT', async () => {
    expect(await ask('PUT', 'vm.resize-disk')).toMatchObject({ status: 400, body: ['Bad Request'] });
    expect(await ask('GET', 'vm.resize-disk')).toMatchObject({ status: 400, body: ['Bad Request'] });
    expect(await ask('DELETE', 'vm.resize-disk')).toMatchObject({ status: 400, text: '' });
  });
});

describe('adding devices', () => {
  it.each([
    ['device', { path: '/sys/d' }, { path: '/sys/d' }],
    ['user-device', { socket: '/s' }, { socket: '/s' }],
    ['disk', { path: '/d', readonly: true }, { path: '/d', readonly: true, num_queues: 1 }],
    ['fs', { tag: 't', socket: '/s' }, { tag: 't', queue_size: 1024 }],
    ['generic-vhost-user', { socket: '/s', queue_sizes: [64], virtio_id: 4 }, { device_type: 4 }],
    ['pmem', { file: '/p' }, { file: '/p', discard_writes: false }],
    ['net', { tap: 'tap0' }, { tap: 'tap0', num_queues: 2 }],
    ['vdpa', { path: '/v' }, { path: '/v', num_queues: 1 }],
    ['vsock', { cid: 3, socket: '/s' }, { cid: 3, socket: '/s' }],
  ] as const)('vm.add-%s hands over a complete device', async (kind, body, device) => {
    const { status, text, vmm } = await ask('PUT', `vm.add-${kind}`, JSON.stringify(body));
    expect([status, text]).toEqual([204, '']);
    expect(vmm.addDevice).toHaveBeenCalledExactlyOnceWith(kind, expect.objectContaining(device), []);
    expect(await ask('PUT', `vm.add-${kind}`)).toMatchObject({ status: 400, body: ['Bad Request'] });
    expect(await ask('GET', `vm.add-${kind}`)).toMatchObject({ status: 400, body: ['Bad Request'] });
    expect(await ask('DELETE', `vm.add-${kind}`)).toMatchObject({ status: 400, text: '' });
    const wrong = await ask('PUT', `vm.add-${kind}`, '{"id":7}');
    expect([wrong.status, wrong.body[0]]).toEqual([400, 'Failed to deserialize JSON']);
  });

  async function send(path: string, body: string, count: number) {
    const files = nodeFiles();
    const descriptors = new Descriptors(files);
    const fds = Array.from({ length: count }, () => files.openFile('/dev/null', 0, 0, FileKind.character));
    descriptors.add(fds);
    const vmm = fakeVmm();
    const bytes = new Uint8Array(Buffer.from(body));
    const request = { method: 'PUT', path: `/api/v1/${path}`, body: bytes } as const;
    const { status } = await answerRequest(vmm, request, descriptors);
    descriptors.close();
    return { status, vmm, fds, left: [...files.open] };
  }

  it.each(['[-1,-1]', '[3,4]', 'null', '[]'])(
    'a network takes the descriptors that came, whatever %s says',
    async (text) => {
      const { status, vmm, fds, left } = await send('vm.add-net', `{"num_queues":4,"fds":${text}}`, 2);
      expect([status, left]).toEqual([204, fds]);
      const device = expect.objectContaining({ num_queues: 4, fds });
      expect(vmm.addDevice).toHaveBeenCalledExactlyOnceWith('net', device, fds);
    },
  );

  it('a network without any has none', async () => {
    const { vmm } = await send('vm.add-net', '{"fds":[7]}', 0);
    expect(vmm.addDevice.mock.calls[0]?.[1]).not.toHaveProperty('fds');
  });

  it('a device takes one descriptor at most', async () => {
    const one = await send('vm.add-device', '{"fd":-1}', 1);
    const device = expect.objectContaining({ fd: one.fds[0] });
    expect(one.vmm.addDevice).toHaveBeenCalledExactlyOnceWith('device', device, one.fds);
    const two = await send('vm.add-device', '{}', 2);
    expect([two.status, two.left]).toEqual([400, []]);
  });

  it.each([
    ['vm.add-disk', '{"path":"/d"}'],
    ['vm.add-net', '{"num_queues":"2"}'],
    ['vm.create', '{}'],
    ['vm.boot', ''],
  ])('%s with descriptors that it does not take leaves none open', async (path, body) => {
    expect((await send(path, body, 3)).left).toEqual([]);
  });
});

describe('orders', () => {
  it.each([
    ['vm.remove-device', '{"id":"d"}', 'removeDevice', ['d', { force: false }]],
    [
      'vm.remove-device',
      '{"id":"d","wait_ms":9,"force":true}',
      'removeDevice',
      ['d', { force: true, waitMs: 9 }],
    ],
    ['vm.resize-zone', '{"id":"z","desired_ram":4096}', 'resizeZone', ['z', 4096, undefined, {}]],
    ['vm.resize-zone', '{"id":"z","desired_ram":4096,"wait_ms":7}', 'resizeZone', ['z', 4096, 7, {}]],
    ['vm.snapshot', '{"destination_url":"file:///s"}', 'snapshot', ['file:///s']],
    ['vm.coredump', '{"destination_url":"file:///c"}', 'coredump', ['file:///c']],
    [
      'vm.restore',
      '{"source_url":"file:///s","resume":true}',
      'restore',
      [{ source_url: 'file:///s', prefault: false, memory_restore_mode: 'Copy', resume: true }],
    ],
    [
      'vm.send-migration',
      '{"destination_url":"unix:/m","local":true}',
      'sendMigration',
      [
        {
          destination_url: 'unix:/m',
          local: true,
          preserve_source: false,
          downtime_ms: 300,
          timeout_s: 3600,
          timeout_strategy: 'Cancel',
          connections: 1,
          memory_mode: 'Precopy',
        },
      ],
    ],
    [
      'vm.receive-migration',
      '{"receiver_url":"tcp:0.0.0.0:7","zone_updates":[{"id":"z","host_numa_node":1}]}',
      'receiveMigration',
      [
        {
          receiver_url: 'tcp:0.0.0.0:7',
          memory_mode: 'Precopy',
          zone_updates: [{ id: 'z', host_numa_node: 1 }],
        },
      ],
    ],
  ] as const)('%s', async (path, body, method, parameters) => {
    const { status, text, vmm } = await ask('PUT', path, body);
    expect([status, text]).toEqual([204, '']);
    expect(vmm[method]).toHaveBeenCalledExactlyOnceWith(...parameters);
    expect(await ask('PUT', path)).toMatchObject({ status: 400, body: ['Bad Request'] });
    expect(await ask('PATCH', path)).toMatchObject({ status: 400, text: '' });
    const wrong = await ask('PUT', path, '{}');
    expect([wrong.status, wrong.body[0]]).toEqual([400, 'Failed to deserialize JSON']);
  });

  it.each([
    ['vm.restore', '{"source_url":"file:///s","net_fds":[{"id":"n","num_fds":2}]}'],
    ['vm.restore', '{"source_url":"file:///s","vfio_fds":[{"id":"v"}]}'],
    ['vm.receive-migration', '{"receiver_url":"unix:/m","vfio_fds":[{"id":"v"}]}'],
  ])('%s wants the descriptors that it names: %s', async (path, body) => {
    const { status, body: answer, vmm } = await ask('PUT', path, body);
    expect([status, answer]).toEqual([400, ['Bad Request']]);
    expect([...vmm.restore.mock.calls, ...vmm.receiveMigration.mock.calls]).toEqual([]);
  });
});

describe('failures', () => {
  it.each([
    [new VmmError('a', { kind: 'missing' }), 404],
    [new VmmError('a', { kind: 'failed' }), 500],
    [new VmmError('a', { cause: new VmmError('b', { kind: 'busy' }) }), 429],
    [new VmmError('a', { cause: new VmmError('b', { kind: 'missing' }) }), 404],
    [new VmmError('a', { cause: new VmmError('b', { cause: new ConfigError('invalid', 'c') }) }), 400],
    [new VmmError('a', { cause: new ConfigError('unsupported', 'c') }), 400],
    [new VmmError('a', { cause: new ConfigError('duplicate', 'c') }), 409],
    [new VmmError('a', { cause: new Error('os') }), 500],
    [new Error('a'), 500],
  ])('%s has its status', async (error, status) => {
    const vmm = fakeVmm();
    vmm.boot.mockRejectedValue(error);
    const answer = await ask('PUT', 'vm.boot', '', vmm);
    expect(answer.status).toBe(status);
    expect(answer.body.slice(0, 2)).toEqual([status === 429 ? 'Too Many Requests' : 'Error from API', 'a']);
  });

  it('lists all causes', async () => {
    const vmm = fakeVmm();
    vmm.info.mockImplementation(() => {
      throw new VmmError('outer', { cause: new VmmError('middle', { cause: new Error('leaf') }) });
    });
    expect((await ask('GET', 'vm.info', '', vmm)).body).toEqual([
      'Error from API',
      'outer',
      'middle',
      'leaf',
    ]);
  });
});
