/** Schema of the kernel or firmware that is booted, and what is handed to it. */
import { invalid } from './rules.ts';
import { type Infer, once } from './schema.ts';

const fwCfgItem = {
  type: 'object',
  name: 'FwCfgItem',
  fields: {
    name: { type: 'string', required: true, help: 'Name of the item' },
    file: { type: 'string', help: 'File with its content' },
    string: { type: 'string', help: 'Its content' },
  },
} as const;

const fwCfgFields = once(
  () =>
    ({
      e820: { type: 'boolean', default: true, help: 'Pass the memory map' },
      kernel: { type: 'boolean', default: true, help: 'Pass the kernel' },
      cmdline: { type: 'boolean', default: true, help: 'Pass the command line' },
      initramfs: { type: 'boolean', default: true, help: 'Pass the initramfs' },
      acpi_tables: { type: 'boolean', default: true, cli: 'acpi_table', help: 'Pass ACPI tables' },
      items: {
        type: 'object',
        name: 'FwCfgItemList',
        fields: { item_list: { type: 'array', items: fwCfgItem, required: true, help: 'Items' } },
        help: 'More items, [name=N,file=PATH:name=N,string=TEXT]',
      },
    }) as const,
);

const fwCfgConfig = {
  type: 'object',
  name: 'FwCfgConfig',
  unsupported: true,
  help: 'What the fw_cfg device offers',
  get fields() {
    return fwCfgFields();
  },
} as const;

export const payloadConfig = {
  type: 'object',
  name: 'PayloadConfig',
  help: 'What the guest boots',
  fields: {
    firmware: { type: 'string', help: 'Firmware to boot, a PVH ELF image' },
    kernel: { type: 'string', help: 'Kernel to boot, a PVH ELF image or a bzImage' },
    cmdline: { type: 'string', help: 'Kernel command line' },
    initramfs: { type: 'string', help: 'Initial RAM file system' },
    igvm: { type: 'string', unsupported: true, help: 'IGVM image to boot' },
    host_data: { type: 'string', unsupported: true, help: 'Host data of a SEV-SNP guest, 64 hex digits' },
    fw_cfg_config: fwCfgConfig,
  },
} as const;

export type PayloadConfig = Infer<typeof payloadConfig>;

/** @throws ConfigError */
export function validatePayload(payload: PayloadConfig | undefined): void {
  const { firmware, kernel, igvm, host_data: hostData, fw_cfg_config: fwCfg } = payload ?? {};
  if (firmware === undefined && kernel === undefined && igvm === undefined) {
    throw invalid('No bootitem provided: neither firmware nor kernel');
  }
  if (firmware !== undefined && (kernel !== undefined || igvm !== undefined)) {
    throw invalid(`Firmware and ${kernel === undefined ? 'igvm' : 'kernel'} are exclusive: give one of them`);
  }
  if (hostData !== undefined && !/^[0-9a-f]{64}$/i.test(hostData)) {
    throw invalid('host_data is not of 64 hexadecimal digits');
  }
  for (const { name, file, string } of fwCfg?.items?.item_list ?? []) {
    if ((file === undefined) === (string === undefined)) {
      throw invalid(`The fw_cfg item ${name} needs either a file or a string`);
    }
  }
}
