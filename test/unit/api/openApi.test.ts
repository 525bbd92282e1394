import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { OPENAPI_FILE, openApiYaml } from '../../../scripts/lib/openApi.mjs';
import { listEndpoints } from '../../../src/api/rest/endpoints.ts';
import { openApiDocument } from '../../../src/api/rest/openApi.ts';

interface Schema {
  readonly properties?: Record<string, Record<string, unknown>>;
  readonly required?: string[];
  readonly additionalProperties?: unknown;
}

const document = openApiDocument() as unknown as {
  paths: Record<string, Record<string, { requestBody?: object; responses: Record<string, object> }>>;
  components: { schemas: Record<string, Schema> };
};

/** Every `$ref` below a value. */
function references(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, member]) =>
    key === '$ref' ? [member as string] : references(member),
  );
}

describe('the OpenAPI document', () => {
  it('has every endpoint with its method', () => {
    expect(Object.entries(document.paths).map(([path, item]) => `${Object.keys(item)} ${path}`)).toEqual(
      listEndpoints().map(({ path, method }) => `${method.toLowerCase()} ${path}`),
    );
    expect(Object.keys(document.paths['/api/v1/vm.boot']?.put?.responses ?? {})).toEqual(['204', 'default']);
    expect(Object.keys(document.paths['/api/v1/vmm.shutdown']?.put?.responses ?? {})).toEqual([
      '200',
      'default',
    ]);
    expect(document.paths['/api/v1/vm.create']?.put?.requestBody).toBeDefined();
  });

  it('refers to nothing that is not there', () => {
    const names = references(document).map((name) => name.replace('#/components/schemas/', ''));
    expect(names).toContain('DiskConfig');
    for (const name of names) expect(document.components.schemas).toHaveProperty(name);
  });

  it('tells what the schema says', () => {
    const { CpusConfig, DiskConfig, RateLimiterConfig, SerialConfig, VmConfig } = document.components.schemas;
    expect(CpusConfig?.required).toEqual(['boot_vcpus', 'max_vcpus']);
    expect(DiskConfig?.properties?.queue_size).toMatchObject({
      type: 'integer',
      maximum: 65_535,
      default: 128,
    });
    expect(DiskConfig?.properties?.lock_granularity).toMatchObject({ enum: ['ByteRange', 'Full'] });
    expect(SerialConfig?.properties?.mode).toMatchObject({
      enum: ['Off', 'Pty', 'Tty', 'File', 'Socket', 'Null'],
    });
    expect(RateLimiterConfig?.additionalProperties).toBe(false);
    expect(VmConfig?.properties?.disks).toMatchObject({ type: 'array' });
  });

  it('says exactly how much 64 bits hold', () => {
    expect(document.components.schemas.MemoryConfig?.properties?.size).toMatchObject({
      format: 'uint64',
      maximum: 2n ** 64n - 1n,
    });
  });

  it('has what is not supported yet: it is understood, and refused at boot', () => {
    expect(document.components.schemas.VmConfig?.properties).toHaveProperty('fs');
    expect(document.components.schemas.DiskConfig?.properties).toHaveProperty('vhost_user');
  });

  it('is what docs/openapi.yaml says: where a change is meant, `npm run api` writes it down', () => {
    expect(openApiYaml(document)).toBe(fs.readFileSync(OPENAPI_FILE, 'utf8'));
  });
});
