/** What a new kind of device takes is a record and a line in the list: with those two, it is everywhere. */
import { describe, expect, it, vi } from 'vitest';
import { Descriptors } from '../../../src/api/rest/descriptors.ts';
import { answerRequest } from '../../../src/api/rest/endpoints.ts';
import { openApiDocument } from '../../../src/api/rest/openApi.ts';
import { parseArguments } from '../../../src/cli/arguments.ts';
import { completions } from '../../../src/cli/completions.ts';
import { ctlDescriptions } from '../../../src/cli/ctl/commands.ts';
import { infoReport } from '../../../src/cli/ctl/reports.ts';
import { helpText } from '../../../src/cli/help.ts';
import { manPage } from '../../../src/cli/manPage.ts';
import { absolutePaths } from '../../../src/cli/vms/machinePaths.ts';
import { decode } from '../../../src/config/decode.ts';
import { configFromOptions } from '../../../src/config/libraryOptions.ts';
import { validateVmConfig } from '../../../src/config/validate.ts';
import { type VmConfig, vmConfig } from '../../../src/config/vmConfig.ts';
import { nodeFiles } from '../support/nodeFiles.ts';
import { config, failure, native, newVmm } from '../vmm/vmmFixture.ts';

vi.mock('../../../src/devices/list.ts', async (original) => {
  const { deviceList } = await original<typeof import('../../../src/devices/list.ts')>();
  const { gadget } = await import('../support/gadget.ts');
  return { deviceList: [...deviceList, gadget] };
});

/** Its types are those of a list without it. */
type WithGadgets = VmConfig & {
  readonly gadgets?: readonly { readonly id?: string; readonly source: string; readonly level: number }[];
};

function machine(...words: string[]): WithGadgets {
  const invocation = parseArguments(['--kernel', '/k', ...words]);
  if (invocation.action !== 'run' || !invocation.options.vm) throw new Error('no machine');
  return invocation.options.vm;
}

const withGadget = (fields: object = {}) => ({ gadgets: [{ source: '/dev/zero', ...fields }] });

describe('on the command line', () => {
  it('is an option with the keys of its schema', () => {
    const { gadgets } = machine('--gadget', 'source=a,level=4', 'source=b,id=second');
    expect(gadgets).toEqual([
      { source: 'a', level: 4, pci_segment: 0 },
      { source: 'b', level: 3, pci_segment: 0, id: 'second' },
    ]);
    expect(() => machine('--gadget', 'lever=4')).toThrow('--gadget: unknown option "lever"');
    expect(() => machine('--gadget', 'a')).toThrow('write source=a if that is what is meant');
    expect(() => machine('--gadget', 'source=a,level=256')).toThrow('expected an integer from 0 to 255');
  });

  it('is in help, manual page and completions', () => {
    expect(helpText()).toMatch(/Further devices:\n(.*\n)*? {2}--gadget OPTIONS\.\.\. +Gadgets/);
    expect(helpText('gadget')).toContain('level=N                   How much of a gadget it is (3)');
    expect(helpText('gadget')).toContain('Example: --gadget source=/dev/zero,level=4');
    expect(manPage()).toContain('gadget');
    for (const shell of ['bash', 'zsh', 'fish']) expect(completions(shell)).toContain('gadget');
    expect(ctlDescriptions['add-gadget']?.about).toBe('Add a gadget');
  });

  it('has paths that another process finds', () => {
    expect(absolutePaths(machine('--gadget', 'source=a'), '/home')).toMatchObject({
      gadgets: [{ source: '/home/a', level: 3 }],
    });
  });
});

describe('in configurations', () => {
  it('has defaults, and the library knows its fields', () => {
    expect(decode(vmConfig, withGadget())).toMatchObject({ gadgets: [{ level: 3 }] });
    const options = { payload: { kernel: '/k' }, ...withGadget({ levle: 1 }) };
    expect(() => configFromOptions(options)).toThrow('unknown field "levle"; did you mean "level"?');
  });

  it.each([
    [{ level: 11 }, 'The gadget /dev/zero has level 11, which is above 10 for each vCPU'],
    [{ id: '__gadget' }, 'must not start with __'],
    [{ pci_device_id: 0 }, 'PCI slot 0 belongs to the host bridge'],
    [{ pci_segment: 1 }, 'PCI segment 1 does not exist'],
  ])('is checked: %j', (fields, message) => {
    const wanted = { payload: { kernel: '/k' }, ...withGadget(fields) };
    expect(() => validateVmConfig(decode(vmConfig, wanted))).toThrow(message);
  });
});

describe('in the API', () => {
  it('is in the OpenAPI document, with an endpoint that adds it', () => {
    const { paths, components } = openApiDocument() as {
      paths: Record<string, unknown>;
      components: { schemas: Record<string, { properties?: Record<string, unknown> }> };
    };
    expect(Object.keys(components.schemas.GadgetConfig?.properties ?? {})).toContain('level');
    expect(components.schemas.VmConfig?.properties?.gadgets).toMatchObject({ type: 'array' });
    expect(paths['/api/v1/vm.add-gadget']).toBeDefined();
  });

  it('is added and removed', async () => {
    const vmm = newVmm();
    await vmm.create(config());
    const body = new TextEncoder().encode('{"source":"/dev/zero","id":"g"}');
    const request = { method: 'PUT', path: '/api/v1/vm.add-gadget', body } as const;
    expect(await answerRequest(vmm, request, new Descriptors(nodeFiles()))).toMatchObject({ status: 204 });
    expect((vmm.info().config as WithGadgets).gadgets).toMatchObject([{ id: 'g', level: 3 }]);
    await vmm.removeDevice('g');
    expect((vmm.info().config as WithGadgets).gadgets).toEqual([]);
    await vmm.quit();
  });
});

describe('in a machine', () => {
  it('is opened, placed behind all others, given to the core, shown, and closed', async () => {
    const vmm = newVmm();
    await vmm.create({ ...config({ watchdog: true }), ...withGadget({ level: 4 }) } as VmConfig);
    await vmm.boot();
    const functions = native.machines[0]?.boot?.pci.functions ?? [];
    expect(functions.map(({ id, slot, kind }) => [id, slot, kind])).toEqual([
      ['__rng', 1, 'rng'],
      ['__watchdog', 2, 'watchdog'],
      ['_gadget0', 3, 'gadget'],
    ]);
    const { device_tree: tree, config: shown } = vmm.info();
    expect(tree?._gadget0).toMatchObject({ parent: '_virtio-pci-_gadget0' });
    expect(tree?.['_virtio-pci-_gadget0']).toMatchObject({ pci_bdf: '0000:00:03.0' });
    expect((shown as WithGadgets).gadgets).toMatchObject([{ id: '_gadget0', level: 4 }]);
    expect(infoReport(vmm.info())).toMatch(/^_gadget0 +gadget +0000:00:03\.0 +\/dev\/zero$/m);
    await vmm.quit();
  });

  it('that cannot be opened fails the boot', async () => {
    const vmm = newVmm();
    await vmm.create({ ...config(), ...withGadget({ source: '/nonexistent/g', level: 1 }) } as VmConfig);
    expect((await failure(vmm.boot())).message).toContain("Cannot open the gadget's source /nonexistent/g");
    await vmm.quit();
  });
});
