import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readJson } from '../../../../src/api/rest/jsonReader.ts';
import { ctlDescriptions } from '../../../../src/cli/ctl/commands.ts';
import { ctlHelp } from '../../../../src/cli/ctl/help.ts';
import { AnswerReader, NotHttp } from '../../../../src/cli/ctl/httpAnswer.ts';
import { pendingText } from '../../../../src/cli/ctl/pending.ts';
import { Refusal } from '../../../../src/cli/ctl/refusal.ts';
import { countersReport, infoReport, pingReport } from '../../../../src/cli/ctl/reports.ts';

describe('an answer', () => {
  const read = (text: string, size = text.length) => {
    const reader = new AnswerReader();
    for (let at = 0; at < text.length; at += size) {
      const answer = reader.add(Buffer.from(text.slice(at, at + size)));
      if (answer) return answer;
    }
    return reader.end();
  };

  it.each([1, 7, 1000])('in pieces of %d bytes', (size) => {
    const text = 'HTTP/1.1 200 \r\nServer: x\r\ncontent-length: 4\r\n\r\n"ab"';
    expect(read(text, size)).toEqual({ status: 200, body: '"ab"' });
  });

  it.each([
    ['HTTP/1.1 204 \r\nServer: x\r\n\r\n', { status: 204, body: '' }],
    ['HTTP/1.1 204 \r\nContent-Length: 9\r\n\r\n', { status: 204, body: '' }],
    ['HTTP/1.1 100 \r\n\r\nHTTP/1.1 400 \r\nContent-Length: 0\r\n\r\n', { status: 400, body: '' }],
    ['HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end', { status: 200, body: 'to the end' }],
    ['HTTP/1.1 200 \r\nServer: x\r\n\r\n', { status: 200, body: '' }],
    ['HTTP/1.1 200 \r\nContent-Length: 4\r\n\r\n"', undefined],
    ['HTTP/1.1 20', undefined],
  ])('%j', (text, answer) => {
    expect(read(text)).toEqual(answer);
  });

  it.each([
    '{"ok":false}\n',
    'SSH-2.0-OpenSSH\r\n',
    'HTTP/1.1 abc\r\n\r\n',
    'HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n',
    'HTTP/1.1 200 \r\nContent-Length: -1\r\n\r\n',
    `HTTP/1.1 200 ${'x'.repeat(70_000)}`,
  ])('%.30j is none', (text) => {
    expect(() => read(text)).toThrow(NotHttp);
  });
});

it('an answer is parsed the same in any pieces, and any bytes are one answer or none', () => {
  const part = fc.constantFrom(
    'HTTP/1.1 200 ',
    'HTTP/1.1 100 ',
    '\r\n',
    '\r\n\r\n',
    'Content-Length: 2',
    'Connection: close',
    '{}',
  );
  const bytes = fc
    .array(fc.oneof(part, fc.string()), { maxLength: 8 })
    .map((parts) => Buffer.from(parts.join('')));
  const outcome = (all: Buffer, size: number) => {
    const reader = new AnswerReader();
    try {
      for (let at = 0; at < all.length; at += size) {
        const answer = reader.add(all.subarray(at, at + size));
        if (answer) return answer;
      }
      return reader.end();
    } catch (error) {
      if (error instanceof NotHttp) return 'none';
      throw error;
    }
  };
  fc.assert(
    fc.property(bytes, fc.integer({ min: 1, max: 9 }), (all, size) => {
      expect(outcome(all, size)).toEqual(outcome(all, all.length || 1));
    }),
    { numRuns: 2000 },
  );
});

describe('a refusal', () => {
  it.each([
    [
      '["Error from API","The VM could not be paused","VM is not running"]',
      'The VM could not be paused: VM is not running',
    ],
    ['["Bad Request"]', 'Bad Request'],
    [
      '{"title":"The VM could not be paused","status":409,"detail":"VM is not running"}',
      'The VM could not be paused: VM is not running',
    ],
    ['{"error":"Too many open connections"}', 'Too many open connections'],
    ['', 'The VMM refused, with status 500 and no reason'],
    ['{ "error": "a\nb" }', '{ "error": "a\\nb" }'],
    ['["a\\u001b[2Jb"]', 'a\\x1b[2Jb'],
  ])('%j says %j', (body, message) => {
    expect(new Refusal({ status: 500, body }).message).toBe(message);
  });
});

describe('for people', () => {
  it('a ping names who answers', () => {
    const json = { build_version: 'tsvmm-v1', version: '54.0.0', pid: 12, features: ['kvm'] };
    expect(pingReport(json)).toBe('tsvmm-v1, API 54.0.0, process 12, features: kvm');
  });

  it('counters have units, and what was never measured has none', () => {
    const json = readJson(
      '{"_disk0":{"read_bytes":2097152,"read_ops":3,"read_latency_min":18446744073709551615,"read_latency_avg":1844674407370955}}',
    );
    expect(countersReport(json)).toBe(
      [
        'DEVICE  COUNTER           VALUE',
        '_disk0  read_bytes        2097152 (2 MiB)',
        '_disk0  read_ops          3',
        '_disk0  read_latency_min  -',
        '_disk0  read_latency_avg  -',
      ].join('\n'),
    );
    expect(countersReport({})).toBe('No device counts anything.');
  });

  it('a VM is its facts and its devices with their places', () => {
    const report = infoReport({
      state: 'Running',
      memory_actual_size: 512 << 20,
      config: {
        cpus: { boot_vcpus: 2, max_vcpus: 4 },
        payload: { kernel: '/vmlinuz', cmdline: 'console=ttyS0' },
        disks: [{ id: '_disk0', path: '/d\u001b[2J', readonly: true }],
        rng: { src: '/dev/urandom' },
        console: { mode: 'Off' },
        serial: { mode: 'Socket', socket: '/s' },
      },
      device_tree: {
        '_virtio-pci-_disk0': { id: '_virtio-pci-_disk0', children: ['_disk0'], pci_bdf: '0000:00:02.0' },
        '_virtio-pci-old': { id: '_virtio-pci-old', children: ['old'], pci_bdf: '0000:00:03.0' },
        old: { id: 'old', children: [], pending_removal: true },
      },
    });
    expect(report).toBe(
      [
        'State         Running',
        'vCPUs         2 of 4',
        'Memory        512 MiB',
        'Kernel        /vmlinuz',
        'Command line  console=ttyS0',
        '',
        'DEVICE    KIND         PLACE         BACKED BY',
        '_disk0    disk         0000:00:02.0  /d\\x1b[2J, read-only',
        '__rng     entropy      -             /dev/urandom',
        'old       removed      0000:00:03.0  kept until the guest has given it up',
        '__serial  serial port  -             socket /s',
      ].join('\n'),
    );
  });

  it('what the guest was asked for and has not done is shown', () => {
    const info = {
      config: { cpus: { boot_vcpus: 4, max_vcpus: 4 } },
      memory_actual_size: 640 << 20,
      memory_requested_size: 1 << 30,
      pending_vcpus: { starting: [2, 3], leaving: [] },
      device_tree: { d: { id: 'd', pending_removal: true }, e: { id: 'e' } },
    };
    expect(infoReport(info)).toContain('vCPUs         4 (not started yet: 2, 3)\n');
    expect(infoReport(info)).toContain('Memory        640 MiB (asked to have 1 GiB)\n');
    const memory = 'memory 640 MiB, asked to have 1 GiB';
    expect(pendingText(info)).toBe(`not started yet: 2, 3; ${memory}`);
    const both = { ...info, pending_vcpus: { starting: [1], leaving: [3] } };
    expect(pendingText(both, 'd')).toBe(
      `not started yet: 1, not given up yet: 3; ${memory}; the guest has it still`,
    );
    expect(pendingText({ ...info, pending_vcpus: undefined, memory_actual_size: 1 << 30 }, 'e')).toBe('');
    expect(pendingText({ pending_vcpus: 7, memory_requested_size: 'x', device_tree: [] }, 'd')).toBe('');
  });

  it.each([null, 1, 'x', [], { config: [] }, { config: { disks: 7, net: [null] } }, { _disk0: 1 }])(
    '%j from a server of any kind is shown somehow',
    (json) => {
      for (const report of [infoReport, countersReport, pingReport])
        expect(report(json)).toEqual(expect.any(String));
    },
  );

  it('every subcommand has a help, with the keys of its options', () => {
    expect(ctlHelp()).toContain('resize [--balloon SIZE] [--cpus N] [--memory SIZE]');
    for (const name of Object.keys(ctlDescriptions)) expect(ctlHelp(name)).toContain(` ${name}`);
    expect(ctlHelp('add-disk')).toContain('image_type=raw|qcow2|vhd|vhdx|vmdk');
  });
});
