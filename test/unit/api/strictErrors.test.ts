/** `--api-strict`: every error with its status, its code and its body. */
import { describe, expect, it } from 'vitest';
import { Descriptors } from '../../../src/api/rest/descriptors.ts';
import { answerRequest } from '../../../src/api/rest/endpoints.ts';
import { HttpParseError, HttpParser } from '../../../src/api/rest/httpRequest.ts';
import { MemoryBudget } from '../../../src/api/rest/memoryBudget.ts';
import {
  PROBLEM_TYPE,
  parseKinds,
  requestKinds,
  strictErrors,
  vmmStatuses,
} from '../../../src/api/rest/strictErrors.ts';
import { ConfigError } from '../../../src/config/configError.ts';
import { FileKind } from '../../../src/host/openFlags.ts';
import { notSupportedYet, VmmError } from '../../../src/vmm/errors.ts';
import { EventLog } from '../../../src/vmm/eventLog.ts';
import { nextState } from '../../../src/vmm/lifecycle.ts';
import { nodeFiles } from '../support/nodeFiles.ts';
import { fakeVmm } from './support.ts';

interface Asked {
  readonly body?: string;
  readonly descriptors?: number;
  readonly vmm?: ReturnType<typeof fakeVmm>;
  readonly events?: EventLog;
}

async function ask(method: string, name: string, asked: Asked = {}) {
  const files = nodeFiles();
  const descriptors = new Descriptors(files);
  for (let i = 0; i < (asked.descriptors ?? 0); i++) {
    descriptors.add([files.openFile('/dev/null', 0, 0, FileKind.character)]);
  }
  const answer = await answerRequest(
    asked.vmm ?? fakeVmm(),
    {
      method,
      path: name.startsWith('/') ? name : `/api/v1/${name}`,
      body: new Uint8Array(Buffer.from(asked.body ?? '')),
    },
    descriptors,
    { events: asked.events, errors: strictErrors },
  );
  descriptors.close();
  return answer;
}

/** An event log that has as many listeners as may be. */
function busyLog(): EventLog {
  const log = new EventLog();
  for (let i = 0; i < 64; i++) log.watch(() => {});
  return log;
}

const requests = [
  ['path', 'GET', '/nowhere', {}],
  ['path', 'GET', 'vm.nothing', {}],
  ['method', 'GET', 'vm.boot', {}],
  ['method', 'PATCH', 'vm.boot', {}],
  ['method', 'POST', 'vm.create', { body: '{}' }],
  ['method', 'DELETE', 'vmm.ping', {}],
  ['unexpected-body', 'PUT', 'vm.boot', { body: '{}' }],
  ['missing-body', 'PUT', 'vm.create', {}],
  ['missing-body', 'PUT', 'vm.add-disk', {}],
  ['descriptors', 'PUT', 'vm.add-device', { body: '{"path":"/d"}', descriptors: 2 }],
  ['descriptors', 'PUT', 'vm.restore', { body: '{"source_url":"file:///s"}', descriptors: 1 }],
  ['query', 'GET', 'vm.events?before=1', { events: new EventLog() }],
  ['busy', 'GET', 'vm.events', { events: busyLog() }],
  ['json', 'PUT', 'vm.create', { body: '{' }],
  ['json', 'PUT', 'vm.create', { body: '{"watchdog":1}' }],
  ['json', 'PUT', 'vm.resize', { body: '{"desired_vcpus":-1}' }],
] as const;

describe('a request that is wrong in itself', () => {
  it.each(requests)('%s: %s %s', async (fault, method, name, asked) => {
    const answer = await ask(method, name, asked);
    const { status, code, title } = requestKinds[fault];
    expect([answer.status, answer.type]).toEqual([status, PROBLEM_TYPE]);
    expect(JSON.parse(answer.body)).toMatchObject({ status, code, title });
  });

  it('has a row above for each fault that there is', () => {
    expect([...new Set(requests.map(([fault]) => fault))].sort()).toEqual(Object.keys(requestKinds).sort());
  });

  it('says which method there is, and nothing to HEAD', async () => {
    expect(await ask('POST', 'vm.create')).toMatchObject({ status: 405, allow: 'PUT' });
    expect(await ask('PUT', 'vm.info')).toMatchObject({ status: 405, allow: 'GET' });
    expect(await ask('HEAD', 'vm.info')).toMatchObject({ status: 405, allow: 'GET', body: '' });
  });

  it('says what of the body cannot be read', async () => {
    const { body } = await ask('PUT', 'vm.create', { body: '{"cpus":{"boot_vcpus":1}}' });
    expect(JSON.parse(body).detail).toBe('cpus: missing field `max_vcpus`');
  });
});

const parsed = [
  ['syntax', 'GET\r\n\r\n'],
  ['syntax', 'G(T / HTTP/1.1\r\n\r\n'],
  ['syntax', 'GET / HTTP/1.1\r\nContent-Length: +2\r\n\r\n'],
  ['version', 'GET / HTTP/2.0\r\n\r\n'],
  ['framing', 'PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n'],
  ['uri-size', `GET /${'a'.repeat(2000)} HTTP/1.1\r\n\r\n`],
  ['header-size', `GET / HTTP/1.1\r\nA: ${'a'.repeat(2000)}\r\n\r\n`],
  ['header-size', `GET / HTTP/1.1\r\n${'A: a\r\n'.repeat(200)}\r\n`],
  ['body-size', 'PUT / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n'],
  ['busy', 'PUT / HTTP/1.1\r\nContent-Length: 4000\r\n\r\n'],
] as const;

function parse(text: string): HttpParseError {
  const parser = new HttpParser(new MemoryBudget(1000), () => {}, true);
  try {
    parser.push(Buffer.from(text));
    while (parser.next());
  } catch (error) {
    return error as HttpParseError;
  }
  throw new Error('accepted');
}

/** Told by the connection, not by the parser (server.test.ts). */
const late = new HttpParseError('The request did not arrive within 10 s.', 'late');

describe('bytes that are no request', () => {
  it.each([...parsed.map(([fault, text]) => [fault, parse(text)] as const), ['late', late] as const])(
    '%s: %s',
    (fault, error) => {
      const { status, code, title } = parseKinds[fault];
      const text = Buffer.from(strictErrors.encodeParseError(error)).toString();
      const [head = '', body = ''] = text.split('\r\n\r\n');
      expect(head.split('\r\n')).toEqual([
        `HTTP/1.1 ${status} `,
        'Server: Cloud Hypervisor API',
        'Connection: close',
        'Content-Type: application/problem+json',
        `Content-Length: ${body.length}`,
      ]);
      expect(JSON.parse(body)).toEqual({ title, status, code, detail: error.message });
    },
  );

  it('has a row above for each fault that there is', () => {
    const faults = new Set<string>([...parsed.map(([fault]) => fault), 'late']);
    expect([...faults].sort()).toEqual(Object.keys(parseKinds).sort());
  });

  it('is said of a connection that is one too many, too', () => {
    const text = Buffer.from(strictErrors.encodeTooManyConnections()).toString();
    expect(text).toMatch(/^HTTP\/1\.1 503 [\s\S]*"code":"ERR_TSVMM_BUSY"/);
  });
});

function thrown(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

const failed = (cause: unknown) => new VmmError('The VM could not boot', { cause });
const host = (code: string) => Object.assign(new Error(`${code}: no`), { code });

const refusals: readonly (readonly [status: number, code: string, error: unknown])[] = [
  [404, 'ERR_TSVMM_MISSING', failed(thrown(() => nextState('boot', 'none')))],
  [409, 'ERR_TSVMM_STATE', failed(thrown(() => nextState('boot', 'running')))],
  [409, 'ERR_TSVMM_STATE', failed(thrown(() => nextState('pause', 'paused')))],
  [409, 'ERR_TSVMM_STATE', failed(thrown(() => nextState('counters', 'created')))],
  [409, 'ERR_TSVMM_DUPLICATE_ID', failed(new ConfigError('duplicate', 'Identifier d is not unique'))],
  [422, 'ERR_TSVMM_CONFIG', failed(new ConfigError('invalid', 'no'))],
  [501, 'ERR_TSVMM_UNSUPPORTED', failed(new ConfigError('unsupported', 'no'))],
  [501, 'ERR_TSVMM_UNSUPPORTED', failed(notSupportedYet('That'))],
  [422, 'ENOENT', failed(host('ENOENT'))],
  [422, 'ERR_TSVMM_KERNEL_FORMAT', failed(host('ERR_TSVMM_KERNEL_FORMAT'))],
  [422, 'ERR_TSVMM_FAILED', failed(new VmmError('no'))],
  [500, 'ERR_TSVMM_FAILED', failed(new TypeError('a bug'))],
  [500, 'ERR_TSVMM_INTERNAL', new TypeError('a bug')],
  ...Object.entries(vmmStatuses).map(([code, status]) => [status, code, failed(host(code))] as const),
];

describe('what the VMM refuses', () => {
  it.each(refusals)('%i %s', async (status, code, error) => {
    const vmm = fakeVmm();
    vmm.boot.mockRejectedValue(error);
    const answer = await ask('PUT', 'vm.boot', { vmm });
    expect(answer).toMatchObject({ status, type: PROBLEM_TYPE });
    const body = JSON.parse(answer.body);
    expect(body).toMatchObject({ status, code });
    if (error instanceof VmmError) expect(body.title).toBe('The VM could not boot');
  });

  it('is cut short where it quotes much', async () => {
    const vmm = fakeVmm();
    vmm.boot.mockRejectedValue(failed(new VmmError('a'.repeat(100_000))));
    expect((await ask('PUT', 'vm.boot', { vmm })).body.length).toBeLessThan(8500);
  });
});
