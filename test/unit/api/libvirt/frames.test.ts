import { expect, test } from 'vitest';
import { encodeError, LibvirtError } from '../../../../src/api/libvirt/errors.ts';
import { encodeFrame, FrameError, FrameReader } from '../../../../src/api/libvirt/frames.ts';
import {
  array,
  dom,
  i32,
  optional,
  parameter,
  str,
  struct,
  u32,
  u64,
} from '../../../../src/api/libvirt/types.ts';
import { XdrError, XdrReader, XdrWriter } from '../../../../src/api/libvirt/xdr.ts';

const hex = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'));
const toHex = (bytes: Uint8Array) =>
  Buffer.from(bytes)
    .toString('hex')
    .replaceAll(/(.{8})(?=.)/g, '$1 ');
const VM1 = { name: 'vm1', uuid: '00010203-0405-0607-0809-0a0b0c0d0e0f', id: 7 };

const write = (type: { write(to: XdrWriter, value: never): void }, value: unknown) => {
  const writer = new XdrWriter();
  type.write(writer, value as never);
  return toHex(writer.finish());
};

test('a call as virsh sends it, however it is cut', () => {
  const bytes = hex('0000001c 20008086 00000001 00000042 00000000 00000000 00000000');
  for (let cut = 0; cut <= bytes.length; cut++) {
    const reader = new FrameReader();
    const frames = [...reader.add(bytes.slice(0, cut)), ...reader.add(bytes.slice(cut))];
    expect(frames).toMatchObject([
      { program: 0x2000_8086, version: 1, procedure: 66, type: 0, serial: 0, status: 0 },
    ]);
  }
});

test('several messages at once, and half of the next', () => {
  const ping = hex('0000001c 6b656570 00000001 00000001 00000002 00000000 00000000');
  const reader = new FrameReader();
  expect(reader.add(Buffer.concat([ping, ping, ping.subarray(0, 10)]))).toHaveLength(2);
  expect(reader.add(ping.subarray(10))).toMatchObject([{ procedure: 1, type: 2 }]);
});

test.each(['00000000', '0000001b', '02000005', 'ffffffff'])('a length of %s is no message', (length) => {
  expect(() => new FrameReader().add(hex(length))).toThrow(FrameError);
});

test('a reply, an error and an event as libvirt encodes them', () => {
  const frame = { program: 0x2000_8086, version: 1, procedure: 23, type: 1, serial: 6, status: 0 };
  const writer = new XdrWriter();
  dom.write(writer, VM1);
  expect(toHex(encodeFrame({ ...frame, payload: writer.finish() }))).toBe(
    '00000038 20008086 00000001 00000017 00000001 00000006 00000000 00000003 766d3100 00010203 04050607 08090a0b 0c0d0e0f 00000007',
  );
  const payload = encodeError(new LibvirtError(42, 20, 'no vm1'));
  expect(toHex(encodeFrame({ ...frame, status: 1, payload }))).toBe(
    '00000054 20008086 00000001 00000017 00000001 00000006 00000001 0000002a 00000014 00000001 00000006 6e6f2076 6d310000 ' +
      '00000002 00000000 00000000 00000000 00000000 ffffffff ffffffff 00000000',
  );
  const event = struct({ callbackID: i32, dom, event: i32, detail: i32 });
  expect(write(event, { callbackID: 3, dom: VM1, event: 2, detail: 0 })).toBe(
    '00000003 00000003 766d3100 00010203 04050607 08090a0b 0c0d0e0f 00000007 00000002 00000000',
  );
});

test('what DOMAIN_GET_INFO and the statistics answer', () => {
  const info = struct({ state: i32, maxMem: u64, memory: u64, nrVirtCpu: i32, cpuTime: u64 });
  expect(write(info, { state: 1, maxMem: 1_048_576n, memory: 524_288n, nrVirtCpu: 2, cpuTime: 1000n })).toBe(
    '00000001 00000000 00100000 00000000 00080000 00000002 00000000 000003e8',
  );
  const params = [
    { field: 'state.state', value: { int: 1 } },
    { field: 'cpu.time', value: { ullong: 5n } },
    { field: 'x', value: { string: 'ab' } },
  ];
  expect(write(struct({ dom, params: array(parameter, 10) }), { dom: VM1, params })).toBe(
    '00000003 766d3100 00010203 04050607 08090a0b 0c0d0e0f 00000007 00000003 0000000b 73746174 652e7374 61746500 00000001 ' +
      '00000001 00000008 6370752e 74696d65 00000004 00000000 00000005 00000001 78000000 00000007 00000002 61620000',
  );
});

test('an optional is there whatever its flag is, if it is not zero', () => {
  const open = struct({ name: optional(str), flags: u32 });
  expect(open.read(new XdrReader(hex('01000000 00000001 71000000 00000002')))).toEqual({
    name: 'q',
    flags: 2,
  });
  expect(open.read(new XdrReader(hex('00000000 00000002')))).toEqual({ name: undefined, flags: 2 });
});

test('parameters of every type are read back', () => {
  const all = [
    { field: 'a', value: { int: -1 } },
    { field: 'b', value: { uint: 4_294_967_295 } },
    { field: 'c', value: { llong: -5n } },
    { field: 'd', value: { ullong: 18_446_744_073_709_551_615n } },
    { field: 'e', value: { double: 1.5 } },
    { field: 'f', value: { boolean: true } },
    { field: 'g', value: { string: 'ü' } },
  ];
  const writer = new XdrWriter();
  array(parameter, 10).write(writer, all as never);
  expect(array(parameter, 10).read(new XdrReader(writer.finish()))).toEqual(all);
});

test.each([
  ['a string that is longer than what is there', str, 'ffffffff'],
  ['a string that is too long', str, '00400001'],
  ['a string without its padding', str, '00000001 61'],
  ['a string that is no UTF-8', str, '00000001 ff000000'],
  ['more elements than there may be', array(i32, 4), '00000005 00000000 00000000 00000000 00000000 00000000'],
  ['more elements than there are', array(i32, 1_000_000), '000f4240 00000000'],
  ['a parameter of no type', parameter, '00000001 61000000 00000008 00000000'],
  ['a domain that is cut off', dom, '00000003 766d3100 0001'],
])('%s is refused', (_, type, bytes) => {
  expect(() => type.read(new XdrReader(hex(bytes)))).toThrow(XdrError);
});

test('a message that comes byte by byte takes no more than twice its bytes, and no time', () => {
  const bytes = encodeFrame({
    ...{ program: 0x2000_8086, version: 1, procedure: 11, type: 0, serial: 1, status: 0 },
    payload: new Uint8Array(100_000).fill(7),
  });
  const reader = new FrameReader();
  const before = process.memoryUsage().arrayBuffers;
  for (let at = 0; at < bytes.length - 1; at++) reader.add(bytes.subarray(at, at + 1));
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4_000_000);
  expect(reader.add(bytes.subarray(-1))[0]?.payload).toHaveLength(100_000);
});

test('an error of any length and content can be sent', () => {
  const payload = encodeError(new LibvirtError(42, 20, `no '${'\0'.repeat(5_000_000)}'`));
  expect(payload.length).toBeLessThan(100_000);
});

test('a string with a NUL is refused both ways', () => {
  expect(() => str.read(new XdrReader(hex('00000003 61006200')))).toThrow(XdrError);
  expect(() => str.write(new XdrWriter(), 'a\0b')).toThrow(XdrError);
});

test.each([
  ['i32', i32, 1, 4],
  ['u32', u32, 1, 4],
  ['u64', u64, 1n, 8],
])('%s is written wherever the buffer has to grow', (_, type, value, size) => {
  for (let before = 0; before < 600; before += 4) {
    const writer = new XdrWriter();
    writer.fixed(new Uint8Array(before));
    (type as { write(to: XdrWriter, value: unknown): void }).write(writer, value);
    expect(writer.finish()).toHaveLength(before + size);
  }
});
