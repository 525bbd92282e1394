import fs from 'node:fs';
import { expect, test } from 'vitest';
import { openApiYaml, SUPERVISOR_OPENAPI_FILE } from '../../../scripts/lib/openApi.mjs';
import { writeJson } from '../../../src/api/rest/jsonWriter.ts';
import { supervisorOpenApi } from '../../../src/supervisor/openApi.ts';
import { routes } from '../../../src/supervisor/routes.ts';

interface Operation {
  readonly operationId: string;
  readonly parameters?: readonly { readonly name: string; readonly in: string }[];
}
const document = supervisorOpenApi() as {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, unknown>> };
};
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
);

test('every route is an operation with a name of its own and its parameters', () => {
  const described = operations.map(({ path, method }) => `${method} ${path}`);
  for (const { method, path } of routes) {
    const name = path.replace('**', '{path}').replace('*', '{name}');
    expect(described).toContain(`${method === '*' ? 'put' : method.toLowerCase()} ${name}`);
  }
  const ids = operations.map(({ operation }) => operation.operationId);
  expect(new Set(ids).size).toBe(ids.length);
  for (const { path, operation } of operations) {
    const inPath =
      operation.parameters?.filter((one) => one.in === 'path').map((one) => `{${one.name}}`) ?? [];
    expect(path.match(/\{\w+\}/g) ?? []).toEqual(inPath);
  }
});

test('every schema that is referred to is there', () => {
  const references = [...writeJson(document).matchAll(/#\/components\/schemas\/(\w+)/g)].map(
    ([, name]) => name,
  );
  expect(references.length).toBeGreaterThan(10);
  for (const name of references) expect(document.components.schemas).toHaveProperty(name as string);
});

test('it is what docs/openapi-tsvmmd.yaml says; `npm run api` updates that', () => {
  expect(openApiYaml(document)).toBe(fs.readFileSync(SUPERVISOR_OPENAPI_FILE, 'utf8'));
});
