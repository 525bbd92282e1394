import { describe, expect, it } from 'vitest';
import { domainDocument } from '../../../../src/api/libvirt/domainDocument.ts';
import { readDomainXml } from '../../../../src/api/libvirt/domainXml.ts';
import type { VmConfigInput } from '../../../../src/config/vmConfig.ts';

const MIB = 1 << 20;
const GIB = 1 << 30;

const domain = (inside: string, devices = '') =>
  `<domain type='kvm'><name>a</name>${inside}
   <os><type arch='x86_64'>hvm</type><kernel>/k</kernel></os><devices>${devices}</devices></domain>`;
const virtioMem = (target: string, attributes = '') =>
  `<memory model='virtio-mem'${attributes}><target>${target}</target></memory>`;
const size = (mib: number) => `<size unit='MiB'>${mib}</size>`;
const memoryOf = (xml: string) => readDomainXml(xml).config.memory;

function written(config: VmConfigInput, plugged?: number): string {
  const of = { name: 'a', uuid: '00010203-0405-0607-0809-0a0b0c0d0e0f', config, kept: [] };
  return domainDocument({
    ...of,
    actions: { restart: 'Never', endOn: [] },
    ...(plugged !== undefined && { id: 1, plugged }),
  });
}

describe('a domain whose memory may grow', () => {
  it('by ACPI has a <maxMemory> above its memory, and gives it back', () => {
    const xml = domain("<maxMemory slots='4' unit='GiB'>4</maxMemory><memory unit='GiB'>1</memory>");
    const { config } = readDomainXml(xml);
    expect(config.memory).toEqual({ size: GIB, hotplug_size: 3 * GIB });
    const out = written(config);
    expect(out).toMatch(/<maxMemory slots='8' unit='KiB'>4194304<\/maxMemory>\s*<memory unit='KiB'>1048576</);
    expect(written(readDomainXml(out).config)).toBe(out);
  });

  it('has none where it is no more than the memory', () => {
    const xml = domain("<maxMemory slots='16' unit='GiB'>1</maxMemory><memory unit='GiB'>1</memory>");
    expect(memoryOf(xml)).toEqual({ size: GIB });
    expect(written(readDomainXml(xml).config)).not.toContain('maxMemory');
  });

  it('by virtio-mem has a device, which its memory counts', () => {
    const target = `${size(512)}<node>0</node><block unit='KiB'>2048</block><requested unit='MiB'>64</requested>`;
    const maximum = "<maxMemory slots='16' unit='GiB'>8</maxMemory>";
    const xml = domain(
      `${maximum}<memory unit='MiB'>1536</memory><currentMemory unit='MiB'>1056</currentMemory>`,
      `${virtioMem(target)}<memballoon model='virtio'/>`,
    );
    const { config } = readDomainXml(xml);
    const sizes = {
      size: GIB,
      hotplug_method: 'VirtioMem',
      hotplug_size: 512 * MIB,
      hotplugged_size: 64 * MIB,
    };
    expect(config).toMatchObject({ memory: sizes, balloon: { size: 32 * MIB } });
    const out = written(config);
    expect(out).toMatch(/<maxMemory slots='1' unit='KiB'>1572864<\/maxMemory>\s*<memory unit='KiB'>1572864</);
    expect(out).toContain("<currentMemory unit='KiB'>1081344</currentMemory>");
    expect(out).toContain("<requested unit='KiB'>65536</requested>");
    expect(out).not.toContain('<current ');
    expect(written(readDomainXml(out).config)).toBe(out);
    expect(written(config, 2 * MIB)).toMatch(/<current unit='KiB'>2048<[\s\S]*<alias name='mem0'\/>/);
  });

  it('that asks for all of its memory is given what it is asked to have', () => {
    const xml = domain(
      "<memory unit='MiB'>1536</memory><currentMemory unit='MiB'>1536</currentMemory>",
      `${virtioMem(size(512))}<memballoon model='virtio'/>`,
    );
    expect(readDomainXml(xml).config).toMatchObject({ balloon: { size: 0 } });
    expect(memoryOf(xml)).not.toHaveProperty('hotplugged_size');
  });

  it.each([
    [
      "<maxMemory slots='4' unit='MiB'>512</maxMemory><memory unit='GiB'>1</memory>",
      '',
      /equal or greater than/,
    ],
    ["<maxMemory slots='16' unit='GiB'>2</maxMemory><memory unit='GiB'>1</memory>", '', /16 slots .* 1 to 8/],
    ["<maxMemory unit='GiB'>2</maxMemory><memory unit='GiB'>1</memory>", '', /maxMemory slots/],
    ['', `${virtioMem(size(1024))}`, /counts its memory devices/],
    ['', virtioMem(size(256)) + virtioMem(size(256)), /more than one memory device/],
    ['', virtioMem(`${size(256)}<requested unit='MiB'>258</requested>`), /requested size must be smaller/],
    ['', virtioMem(`${size(256)}<requested unit='MiB'>3</requested>`), /integer multiple of block size/],
    ['', virtioMem(size(64)), /no multiple of 134217728 bytes/],
    ['', virtioMem(`${size(256)}<block unit='MiB'>4</block>`), /a <block> of 4194304 bytes, only 2097152/],
    ['', virtioMem(`${size(256)}<node>1</node>`), /NUMA node 1/],
    ['', virtioMem(''), /missing or empty <size>/],
    ['', virtioMem(size(256), " access='shared'"), /access of a memory device/],
    ['', `<memory model='virtio-mem'><source/><target>${size(256)}</target></memory>`, /<source>/],
    ['', `<memory model='dimm'><target>${size(256)}</target></memory>`, /'dimm' of a domain that starts/],
    ['', `<memory model='nvdimm'><target>${size(256)}</target></memory>`, /model 'nvdimm': 'dimm' and/],
    ["<cpu><numa><cell id='0'/><cell id='1'/></numa></cpu>", '', /more than one <cell>/],
  ])('is refused as %s %s', (sizes, devices, message) => {
    const memory = sizes.includes('<memory') ? sizes : `<memory unit='MiB'>1024</memory>${sizes}`;
    expect(() => readDomainXml(domain(memory, devices))).toThrow(message);
  });
});
