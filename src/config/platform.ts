/** Schema of what concerns the whole machine: PCI segments, IOMMU, SMBIOS strings. */
import { MAX_FD, U8, U16, U32 } from './limits.ts';
import { invalid } from './rules.ts';
import { type Infer, once } from './schema.ts';

const MAX_PCI_SEGMENTS = 96;
const MAX_IOMMU_ADDRESS_BITS = 64;
/** Of a page: less translates nothing. */
const MIN_IOMMU_ADDRESS_BITS = 12;

const platformFields = once(
  () =>
    ({
      num_pci_segments: { type: 'integer', max: U16, default: 1, help: 'Number of PCI segments, up to 16' },
      iommu_segments: {
        type: 'array',
        items: { type: 'integer', max: U16 },
        help: 'PCI segments behind a virtual IOMMU',
      },
      iommu_address_width_bits: {
        type: 'integer',
        max: U8,
        default: 64,
        cli: 'iommu_address_width',
        help: 'Bits of the addresses that a virtual IOMMU translates',
      },
      iommufd: { type: 'boolean', default: false, help: 'Use iommufd for devices of the host' },
      iommufd_fd: { type: 'integer', max: MAX_FD, help: 'Inherited descriptor of /dev/iommu' },
      vfio_p2p_dma: { type: 'boolean', default: true, help: 'Map memory of devices for one another' },
      system_manufacturer: { type: 'string', help: 'SMBIOS manufacturer' },
      system_product_name: { type: 'string', help: 'SMBIOS product name' },
      system_version: { type: 'string', help: 'SMBIOS version' },
      system_serial_number: { type: 'string', alias: 'serial_number', help: 'SMBIOS serial number' },
      system_uuid: { type: 'string', alias: 'uuid', help: 'SMBIOS UUID' },
      system_sku_number: { type: 'string', help: 'SMBIOS SKU number' },
      system_family: { type: 'string', help: 'SMBIOS family' },
      chassis_asset_tag: { type: 'string', help: 'SMBIOS chassis asset tag' },
      oem_strings: { type: 'array', items: { type: 'string' }, help: 'SMBIOS OEM strings' },
      tdx: { type: 'boolean', default: false, unsupported: true, help: 'Run as an Intel TDX guest' },
      sev_snp: { type: 'boolean', default: false, unsupported: true, help: 'Run as an AMD SEV-SNP guest' },
    }) as const,
);

export const platformConfig = {
  type: 'object',
  name: 'PlatformConfig',
  help: 'Platform and SMBIOS strings',
  get fields() {
    return platformFields();
  },
} as const;

/** How much of the address space a segment gets. */
const pciSegmentFields = once(
  () =>
    ({
      pci_segment: { type: 'integer', max: U16, default: 0, help: 'Number of the segment' },
      mmio32_aperture_weight: { type: 'integer', max: U32, default: 1, help: 'Its share below 4 GiB' },
      mmio64_aperture_weight: { type: 'integer', max: U32, default: 1, help: 'Its share above 4 GiB' },
    }) as const,
);

export const pciSegmentConfig = {
  type: 'object',
  name: 'PciSegmentConfig',
  get fields() {
    return pciSegmentFields();
  },
} as const;

export type PlatformConfig = Infer<typeof platformConfig>;
export type PciSegmentConfig = Infer<typeof pciSegmentConfig>;

/** PCI segments of which every device is behind the IOMMU, those too that come while the machine runs. */
export function iommuSegments(platform: PlatformConfig | undefined): readonly number[] {
  return platform?.iommu_segments ?? [];
}

/** @throws ConfigError */
export function validatePlatform(platform: PlatformConfig): void {
  const { num_pci_segments: count, iommu_segments = [], iommu_address_width_bits: bits } = platform;
  if (count < 1 || count > MAX_PCI_SEGMENTS) {
    throw invalid(
      `platform.num_pci_segments is ${count}: there can be 1 to ${MAX_PCI_SEGMENTS} PCI segments`,
    );
  }
  for (const segment of iommu_segments) {
    if (segment >= count)
      throw invalid(`platform.iommu_segments names PCI segment ${segment}, which does not exist`);
  }
  if (bits > MAX_IOMMU_ADDRESS_BITS)
    throw invalid(`An IOMMU address has at most ${MAX_IOMMU_ADDRESS_BITS} bits`);
  if (bits < MIN_IOMMU_ADDRESS_BITS)
    throw invalid(`An IOMMU address has at least ${MIN_IOMMU_ADDRESS_BITS} bits`);
  if (platform.iommufd_fd !== undefined && !platform.iommufd) {
    throw invalid('platform.iommufd_fd needs iommufd=on');
  }
}

/** @throws ConfigError */
export function validatePciSegment(segment: PciSegmentConfig, count: number): void {
  const { pci_segment: number } = segment;
  if (number >= count)
    throw invalid(`PCI segment ${number} does not exist: platform.num_pci_segments is ${count}`);
  if (segment.mmio32_aperture_weight === 0 || segment.mmio64_aperture_weight === 0) {
    throw invalid(`PCI segment ${number} has an aperture of weight 0`);
  }
}
