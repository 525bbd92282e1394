/** Values that another program has sent: of any type, and perhaps not printable. */
import { writeJson } from '../../api/rest/jsonWriter.ts';
import { printable } from '../../vmm/printable.ts';
import { humanBytes } from '../vms/table.ts';

export type Json = Readonly<Record<string, unknown>>;

export function objectOf(value: unknown): Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : {};
}

export function listOf(value: unknown): Json[] {
  return Array.isArray(value) ? value.map(objectOf) : [];
}

export function textOf(value: unknown): string {
  if (value === undefined || value === null) return '';
  return printable(typeof value === 'object' ? writeJson(value) : String(value));
}

export function listText(values: readonly unknown[]): string {
  return values.map(textOf).join(', ');
}

export function bytesText(value: unknown): string {
  return typeof value === 'number' || typeof value === 'bigint' ? humanBytes(value) : textOf(value);
}
