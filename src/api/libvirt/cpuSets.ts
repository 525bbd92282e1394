/** Sets of host CPUs: lists such as `0-3,^2` in documents, bit maps in the protocol. */

/** Of CPUs in a list or a map, at most. */
const MAX_CPU = 16_383;

/** The numbers in order. Undefined if the text is no list. */
export function parseCpuList(text: string): number[] | undefined {
  const chosen = new Set<number>();
  for (const part of text.split(',')) {
    const found = /^\s*(\^?)(\d{1,5})(?:-(\d{1,5}))?\s*$/.exec(part);
    if (!found) return undefined;
    const first = Number(found[2]);
    const last = Number(found[3] ?? first);
    if (last < first || last > MAX_CPU) return undefined;
    for (let cpu = first; cpu <= last; cpu++) {
      if (found[1] === '^') chosen.delete(cpu);
      else chosen.add(cpu);
    }
  }
  return [...chosen].sort((a, b) => a - b);
}

/** @param cpus in order */
export function formatCpuList(cpus: readonly number[]): string {
  const parts: string[] = [];
  for (let at = 0; at < cpus.length; at++) {
    const first = cpus[at] as number;
    while (cpus[at + 1] === (cpus[at] as number) + 1) at++;
    parts.push(cpus[at] === first ? `${first}` : `${first}-${cpus[at]}`);
  }
  return parts.join(',');
}

/** Bit 0 of byte 0 is CPU 0. @param length bytes; as many as there have to be unless given */
export function cpuMap(
  cpus: readonly number[],
  length = Math.ceil(((cpus.at(-1) ?? -1) + 1) / 8),
): Uint8Array {
  const map = new Uint8Array(Math.max(length, 0));
  for (const cpu of cpus) {
    if (cpu >> 3 < map.length) map[cpu >> 3] = (map[cpu >> 3] as number) | (1 << (cpu & 7));
  }
  return map;
}

export function cpusOfMap(map: Uint8Array): number[] {
  const cpus: number[] = [];
  for (let cpu = 0; cpu < map.length * 8; cpu++)
    if ((map[cpu >> 3] as number) & (1 << (cpu & 7))) cpus.push(cpu);
  return cpus;
}
