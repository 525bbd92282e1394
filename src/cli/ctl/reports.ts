/** Formats answers of a VM's REST API as text. */

import { KIB } from '../../config/units.ts';
import { characterText } from '../../devices/characterDevices.ts';
import type { AnyDeviceRecord } from '../../devices/record.ts';
import { deviceRecords } from '../../devices/registry.ts';
import { SERIAL_ID } from '../../platform/deviceIds.ts';
import { formatTable, humanBytes } from '../vms/table.ts';
import { memoryText, vcpusText } from './pending.ts';
import { bytesText, type Json, listOf, objectOf, textOf } from './values.ts';

function width(): number {
  return process.stdout.isTTY && process.stdout.columns > 0
    ? process.stdout.columns
    : Number.POSITIVE_INFINITY;
}

export function pingReport(json: unknown): string {
  const { build_version, version, pid, features } = objectOf(json);
  const list = Array.isArray(features) ? features.map(textOf).join(', ') : '';
  return `${textOf(build_version)}, API ${textOf(version)}, process ${textOf(pid)}${list && `, features: ${list}`}`;
}

export function infoReport(json: unknown): string {
  const info = objectOf(json);
  const config = objectOf(info.config);
  const payload = objectOf(config.payload);
  const facts: [string, string][] = [
    ['State', textOf(info.state)],
    ['vCPUs', vcpusText(info)],
    ['Memory', memoryText(info)],
    ['Kernel', textOf(payload.kernel)],
    ['Firmware', textOf(payload.firmware)],
    ['Initramfs', textOf(payload.initramfs)],
    ['Command line', textOf(payload.cmdline)],
  ];
  const lines = facts
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${name.padEnd(14)}${value}\n`);
  const devices = formatTable(
    ['DEVICE', 'KIND', 'PLACE', 'BACKED BY'],
    deviceRows(config, info.device_tree),
    width(),
  );
  return `${lines.join('')}\n${devices}`.trimEnd();
}

const texts = { text: textOf, bytes: bytesText };

function deviceRows(config: Json, tree: unknown): string[][] {
  const places = placesOf(objectOf(tree));
  const row = (id: unknown, kind: string, backedBy: string): string[] => {
    const name = textOf(id ?? '-');
    return [name, kind, places.get(name) ?? '-', backedBy];
  };
  const rows = deviceRecords.flatMap((record) => {
    const called = record.listing?.called ?? record.name;
    const devices = valuesOf(config[record.field]).filter(({ mode }) => mode !== 'Off');
    return devices.map((device) => row(idOf(record, device), called, backing(record, device)));
  });
  for (const { id, pending_removal } of Object.values(objectOf(tree)).map(objectOf)) {
    if (pending_removal === true) rows.push(row(id, 'removed', 'kept until the guest has given it up'));
  }
  const serial = objectOf(config.serial);
  if (serial.mode === undefined || serial.mode === 'Off') return rows;
  return [...rows, row(SERIAL_ID, 'serial port', characterText(serial, texts))];
}

/** Of a field of a configuration: a list, one, or whether there is one. */
function valuesOf(value: unknown): Json[] {
  if (Array.isArray(value)) return listOf(value);
  return value === undefined || value === null || value === false ? [] : [objectOf(value)];
}

function idOf({ ids }: AnyDeviceRecord, { id }: Json): unknown {
  return id ?? ('fixed' in ids ? ids.fixed : undefined);
}

function backing({ listing, paths = {} }: AnyDeviceRecord, device: Json): string {
  if (listing?.backedBy) return listing.backedBy(device, texts);
  const names = [...(paths.files ?? []), ...(paths.sockets ?? [])];
  return names.map((name) => textOf(device[name])).join(', ');
}

/** PCI addresses, by the device's identifier: they are their wrapping nodes'. */
function placesOf(tree: Json): Map<string, string> {
  const places = new Map<string, string>();
  for (const node of Object.values(tree).map(objectOf)) {
    const { pci_bdf, children, id } = node;
    if (pci_bdf === undefined) continue;
    for (const child of [id, ...(Array.isArray(children) ? children : [])])
      places.set(textOf(child), textOf(pci_bdf));
  }
  return places;
}

export function countersReport(json: unknown): string {
  const rows = Object.entries(objectOf(json)).flatMap(([device, counters]) =>
    Object.entries(objectOf(counters)).map(([name, value]) => [
      textOf(device),
      textOf(name),
      counterText(name, value),
    ]),
  );
  if (rows.length === 0) return 'No device counts anything.';
  return formatTable(['DEVICE', 'COUNTER', 'VALUE'], rows, width()).trimEnd();
}

/** A latency that was never measured is the largest number that there is. */
const NEVER = 2n ** 64n - 1n;
const TEN_THOUSAND = 10_000n;

export function counterText(name: string, value: unknown): string {
  if (name.includes('latency')) {
    const us = typeof value === 'number' ? BigInt(Math.trunc(value)) : value;
    if (typeof us === 'bigint' && us >= NEVER / TEN_THOUSAND) return '-';
    return `${textOf(value)} us`;
  }
  if (name.endsWith('_bytes') && typeof value === 'number' && value >= KIB) {
    return `${value} (${humanBytes(value)})`;
  }
  return textOf(value);
}
