import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { decode } from '../../../src/config/decode.ts';
import type { Input } from '../../../src/config/schema.ts';
import { type DiskContext, openDisk } from '../../../src/devices/disk/openDisk.ts';
import { diskConfig } from '../../../src/devices/disk.ts';
import type { NativeAddon } from '../../../src/native.ts';
import { describeError } from '../../../src/vmm/errors.ts';
import { type NodeFiles, nodeFiles } from '../support/nodeFiles.ts';

let folder: string;
let files: NodeFiles;
let warnings: string[];
/** Files whose store was asked for an answer. */
let asked: string[];
let opened: number[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsvmm-disks-'));
  files = nodeFiles();
  warnings = [];
  asked = [];
  opened = [];
});

function closeAll(): void {
  for (const fd of opened.splice(0)) files.closeFile(fd);
}

afterEach(() => {
  closeAll();
  expect([...files.open]).toEqual([]);
  rmSync(folder, { recursive: true });
});

const path = (name: string) => join(folder, name);

function open(name: string, options: Input<typeof diskConfig> = {}) {
  const formats = new WeakMap();
  const context: DiskContext = {
    native: files as unknown as NativeAddon,
    warn: (message) => warnings.push(message),
    guessedFormats: () => formats,
    filesAnswer: async (paths) => void asked.push(...paths),
    opened,
  };
  return openDisk(context, decode(diskConfig, { path: path(name), ...options }));
}

async function refusal(name: string, options?: Input<typeof diskConfig>): Promise<string> {
  const error = await open(name, options).catch((failure) => failure);
  return error instanceof Error ? describeError(error).replaceAll(`${folder}/`, '') : 'no error';
}

interface Header {
  readonly version?: number;
  readonly backing?: string | Buffer;
  /** Where the name is, and how long the header says it is. */
  readonly offset?: number;
  readonly length?: number;
  readonly format?: string;
  readonly clusterBits?: number;
  readonly headerLength?: number;
  /** Extensions before that of the format, by length. */
  readonly extensions?: readonly number[];
}

/** A qcow2 header (qcow2 specification, "Header") with nothing behind it. */
function qcow2(name: string, header: Header = {}): void {
  const { version = 3, clusterBits = 16, headerLength = 104, extensions = [], format, backing } = header;
  const bytes = Buffer.alloc(65_536);
  bytes.write('QFI\xfb', 'latin1');
  bytes.writeUInt32BE(version, 4);
  bytes.writeUInt32BE(clusterBits, 20);
  if (version === 3) bytes.writeUInt32BE(headerLength, 100);
  let at = version === 3 ? headerLength : 72;
  for (const length of extensions) {
    bytes.writeUInt32BE(0x6803f857, at);
    bytes.writeUInt32BE(length, at + 4);
    at += 8 + Math.ceil(length / 8) * 8;
  }
  if (format !== undefined) {
    bytes.writeUInt32BE(0xe2792aca, at);
    bytes.writeUInt32BE(format.length, at + 4);
    bytes.write(format, at + 8);
  }
  if (backing !== undefined) {
    const text = Buffer.from(backing);
    const offset = header.offset ?? 4096;
    bytes.writeBigUInt64BE(BigInt(offset), 8);
    bytes.writeUInt32BE(header.length ?? text.length, 16);
    if (offset + text.length <= bytes.length) text.copy(bytes, offset);
  }
  mkdirSync(dirname(path(name)), { recursive: true });
  writeFileSync(path(name), bytes);
}

function raw(name: string, content = ''): void {
  mkdirSync(dirname(path(name)), { recursive: true });
  writeFileSync(path(name), Buffer.alloc(4096, content));
}

function vhd(name: string, type: number, size = 4096): void {
  const bytes = Buffer.alloc(size + 512);
  bytes.write('conectix', size);
  bytes.writeUInt32BE(type, size + 60);
  writeFileSync(path(name), bytes);
}

const NOT_SUPPORTED = 'which is not supported: convert it, as by "qemu-img convert -O qcow2"';
const backed = { image_type: 'Qcow2', backing_files: true } as const;

describe('the format of an image', () => {
  beforeEach(() => {
    raw('raw');
    qcow2('qcow2');
    vhd('vhd', 2);
    vhd('dynamic', 3);
    writeFileSync(path('vhdx'), 'vhdxfile'.padEnd(4096, '\0'));
    writeFileSync(path('vmdk'), '# Disk DescriptorFile\n');
    writeFileSync(path('sparse.vmdk'), 'KDMV'.padEnd(512, '\0'));
    writeFileSync(path('empty'), '');
    const vdi = `${'<<< Oracle VM VirtualBox Disk Image >>>\n'.padEnd(64, '\0')}\x7f\x10\xda\xbe`;
    const others = { vdi, qed: 'QED\0', parallels: 'WithoutFreeSpace', parallels2: 'WithouFreSpacExt' };
    for (const [name, magic] of Object.entries({ ...others, luks: 'LUKS\xba\xbe' })) {
      writeFileSync(path(name), magic.padEnd(4096, '\0'), 'latin1');
    }
    writeFileSync(path('odd'), Buffer.alloc(4096 + 100));
  });

  it('may be raw although a guest has encrypted all of it', async () => {
    expect((await open('luks', { image_type: 'Raw' })).layers).toMatchObject([{ format: 'raw' }]);
    expect(warnings).toEqual([]);
  });

  it('is raw where a footer lies across two sectors, which writes of a guest are not checked for', async () => {
    vhd('ragged', 2, 4096 + 100);
    expect((await open('ragged')).layers).toMatchObject([{ format: 'raw' }]);
  });

  it('says what a guest does not see of a file that ends within a sector', async () => {
    await open('odd', { image_type: 'Raw' });
    expect(warnings).toEqual([
      expect.stringMatching(
        /odd has 4196 bytes, which is no multiple of 512: its guest does not see the last 100 /,
      ),
    ]);
  });

  it('says where there is no direct I/O', async () => {
    const { openFile } = files;
    files.openFile = () => {
      throw Object.assign(new Error('opening: Invalid argument'), { code: 'EINVAL' });
    };
    expect(await refusal('raw', { direct: true })).toMatch(
      /^Cannot open disk path raw: its file system has no direct I\/O, leave direct=on out: opening/,
    );
    files.openFile = openFile;
  });

  it.each([
    ['raw', 'raw', true],
    ['empty', 'raw', true],
    ['qcow2', 'qcow2', false],
    ['vhd', 'vhd', true],
    ['vhdx', 'vhdx', false],
  ])('is found out for %s', async (name, format, protectSector0) => {
    const disk = await open(name);
    expect([disk.layers.map((layer) => layer.format), disk.protectSector0]).toEqual([
      [format],
      protectSector0,
    ]);
    expect(warnings.join()).toContain(
      protectSector0 ? `was detected as ${format}: its guest cannot write` : '',
    );
    expect(warnings).toHaveLength(protectSector0 ? 1 : 0);
  });

  it.each([
    ['raw', 'Raw', 'raw'],
    ['qcow2', 'Qcow2', 'qcow2'],
    ['vhd', 'FixedVhd', 'vhd'],
    ['vhdx', 'Vhdx', 'vhdx'],
  ] as const)('is what was said for %s, without a guard or a warning', async (name, image_type, format) => {
    const disk = await open(name, { image_type });
    expect([disk.layers.map((layer) => layer.format), disk.protectSector0]).toEqual([[format], false]);
    expect(warnings).toEqual([]);
  });

  it('may be called raw, whatever is in it', async () => {
    const disk = await open('qcow2', { image_type: 'Raw' });
    expect(disk.layers).toMatchObject([{ format: 'raw' }]);
    expect(warnings).toEqual([expect.stringContaining('looks like a qcow2 image')]);
  });

  it('needs no guard on a disk that nobody can write to', async () => {
    expect((await open('raw', { readonly: true })).protectSector0).toBe(false);
    expect(warnings).toEqual([]);
  });

  it.each([
    ['raw', 'Qcow2', 'The disk raw was given as a qcow2 image, but shows no sign of it'],
    ['vhdx', 'Qcow2', 'The disk vhdx was given as a qcow2 image, but is a vhdx image'],
    ['dynamic', 'FixedVhd', 'The disk dynamic was given as a vhd image, but is a dynamic vhd image'],
    ['raw', 'Vhdx', 'The disk raw was given as a vhdx image, but shows no sign of it'],
    ['dynamic', 'Unknown', `The disk dynamic is a dynamic vhd image, ${NOT_SUPPORTED}`],
    ['vmdk', 'Unknown', `The disk vmdk is a vmdk image, ${NOT_SUPPORTED}`],
    ['sparse.vmdk', 'Unknown', `The disk sparse.vmdk is a vmdk image, ${NOT_SUPPORTED}`],
    ['vdi', 'Unknown', `The disk vdi is a VDI image, ${NOT_SUPPORTED}`],
    ['qed', 'Unknown', `The disk qed is a QED image, ${NOT_SUPPORTED}`],
    ['parallels', 'Unknown', `The disk parallels is a Parallels image, ${NOT_SUPPORTED}`],
    ['parallels2', 'Unknown', `The disk parallels2 is a Parallels image, ${NOT_SUPPORTED}`],
    [
      'luks',
      'Unknown',
      'The disk luks is a LUKS image, which is not supported: open it on the host (cryptsetup), or give image_type=raw if it is the guest that encrypts it',
    ],
  ] as const)('of %s is not %s', async (name, image_type, message) => {
    expect(await refusal(name, { image_type })).toBe(message);
  });

  it('is read past O_DIRECT', async () => {
    expect((await open('qcow2', { direct: true })).layers).toMatchObject([{ format: 'qcow2' }]);
  });
});

describe('backing files', () => {
  beforeEach(() => {
    raw('base');
    qcow2('top', { backing: 'base', format: 'raw' });
  });

  it('are opened and locked for reading, from the top down, each beside what names it', async () => {
    qcow2('below/base.qcow2', { backing: 'base.raw', format: 'raw', version: 2 });
    raw('below/base.raw');
    qcow2('chain', { backing: 'below/base.qcow2', format: 'qcow2', extensions: [384, 3] });
    const { layers } = await open('chain', backed);
    expect(layers.map(({ format }) => format)).toEqual(['qcow2', 'qcow2', 'raw']);
    expect(asked).toEqual(['chain', 'below/base.qcow2', 'below/base.raw'].map(path));
    const locks = [...files.locked].filter(([, held]) => held.length > 0);
    expect(locks.map(([file, [held]]) => [file.slice(folder.length + 1), held])).toEqual([
      ['chain', { fd: layers[0]?.fd.fd, exclusive: true }],
      ['below/base.qcow2', { fd: layers[1]?.fd.fd, exclusive: false }],
      ['below/base.raw', { fd: layers[2]?.fd.fd, exclusive: false }],
    ]);
  });

  it('may be shared by disks that have one base, but not written to', async () => {
    qcow2('other', { backing: path('base'), format: 'raw' });
    await open('top', backed);
    await open('other', backed);
    expect(await refusal('base', { image_type: 'Raw' })).toContain('Cannot lock the disk base for writing');
  });

  it.each([
    ['that are not allowed', { image_type: 'Qcow2' }, 'needs backing_files=on'],
    ['of an image whose type was guessed', {}, 'needs image_type=qcow2 and backing_files=on'],
    [
      'of an image whose type was guessed, although allowed',
      { backing_files: true },
      'needs image_type=qcow2 and backing_files=on',
    ],
  ] as const)('%s are refused', async (_name, options, needed) => {
    expect(await refusal('top', options)).toBe(
      `The image top has the backing file base, which ${needed} to be opened`,
    );
  });

  it('without a format are raw if they look like it, and refused otherwise', async () => {
    qcow2('top', { backing: 'base' });
    expect((await open('top', backed)).layers).toMatchObject([{}, { format: 'raw' }]);
    closeAll();
    qcow2('base');
    expect(await refusal('top', backed)).toContain('record it with "qemu-img rebase -u');
  });

  it('that say raw are raw, whatever a guest wrote to them', async () => {
    qcow2('base', { backing: '/etc/passwd', format: 'raw' });
    expect((await open('top', backed)).layers).toMatchObject([{}, { format: 'raw' }]);
  });

  it.each<[string, Header, string]>([
    ['a missing file', { backing: 'gone' }, 'Cannot open disk path gone'],
    ['a folder', { backing: '/' }, 'Cannot open disk path /: / is no regular file'],
    ['a protocol', { backing: 'nbd://host/x' }, 'has the backing file nbd://host/x, which is no path'],
    ['JSON', { backing: 'json:{}' }, 'which is no path'],
    ["a terminal's orders", { backing: '\x1b[2J:\n' }, 'has the backing file \\x1b[2J:\\n, which is no path'],
    ['a format unknown here', { backing: 'base', format: 'vmdk' }, 'of format vmdk, which is not supported'],
    ['a property', { backing: 'base', format: 'toString' }, 'of format toString, which is not supported'],
    [
      'qcow2 that it is not',
      { backing: 'base', format: 'qcow2' },
      'is not the qcow2 image that it should be',
    ],
    ['itself', { backing: './top', format: 'qcow2' }, 'is, by way of others, its own backing file'],
    ['nothing', { backing: 'base', length: 0 }, 'backing file name is not where'],
    ['a name too long', { backing: 'base', length: 1024 }, 'backing file name is not where'],
    ['a name beyond the first cluster', { backing: 'base', clusterBits: 9 }, 'is not where it has to be'],
    ['a name far away', { backing: 'base', offset: 2 ** 48 }, 'is not where it has to be'],
    ['a zero byte', { backing: 'ba\0se' }, 'backing file name is no text'],
    ['bytes', { backing: Buffer.of(0xff, 0xfe) }, 'backing file name is no text'],
    ['a cluster size too large', { backing: 'base', clusterBits: 63 }, 'cluster size cannot be 2^63'],
    ['a header too long', { backing: 'base', headerLength: 8192 }, 'header has no sensible length'],
    ['a crooked header', { backing: 'base', headerLength: 107 }, 'header has no sensible length'],
    ['an endless extension', { backing: 'base', extensions: [0xffff_fff0] }, 'longer than the header'],
    ['too many extensions', { backing: 'base', extensions: Array(64).fill(0) }, 'too many extensions'],
    ['a format too long', { backing: 'base', format: 'x'.repeat(65) }, 'backing file format is no text'],
    ['another version', { backing: 'base', version: 4 }, 'has version 4, which is not supported'],
  ])('that are %s are refused', async (_name, header, message) => {
    qcow2('top', header);
    expect(await refusal('top', backed)).toContain(message);
  });

  it('that lead in a circle, by other names too, are refused', async () => {
    qcow2('a', { backing: 'b', format: 'qcow2' });
    qcow2('b', { backing: 'link', format: 'qcow2' });
    symlinkSync('a', path('link'));
    expect(await refusal('a', backed)).toBe('The image link is, by way of others, its own backing file');
  });

  it('are counted', async () => {
    for (let i = 0; i < 70; i++) qcow2(`${i}`, { backing: `${i + 1}`, format: i === 69 ? 'raw' : 'qcow2' });
    raw('70');
    expect(await refusal('0', backed)).toBe('The disk 0 has more than 64 images on top of each other');
    closeAll();
    expect((await open('7', backed)).layers).toHaveLength(64);
  });

  it('of a header that is cut off are refused', async () => {
    writeFileSync(path('short'), 'QFI\xfb\0\0\0\x03', 'latin1');
    expect(await refusal('short', backed)).toContain('its header is cut off');
  });
});
