/** What editors show at the fields of a configuration. */
import { expect, test } from 'vitest';
import { vmResize } from '../../../src/config/requests.ts';
import type { Shape } from '../../../src/config/schema.ts';
import { vmConfig } from '../../../src/config/vmConfig.ts';

function fieldsWithoutHelp(shape: Shape, seen: Set<string>): string[] {
  if (shape.type === 'array') return fieldsWithoutHelp(shape.items, seen);
  if (shape.type !== 'object' || seen.has(shape.name)) return [];
  seen.add(shape.name);
  return Object.entries(shape.fields).flatMap(([name, field]) => [
    ...(field.help === undefined ? [`${shape.name}.${name}`] : []),
    ...fieldsWithoutHelp(field, seen),
  ]);
}

test('every field has its words', () => {
  const seen = new Set<string>();
  expect([...fieldsWithoutHelp(vmConfig, seen), ...fieldsWithoutHelp(vmResize, seen)]).toEqual([]);
  expect(seen).toContain('RateLimiterConfig');
});
