/** The answer of `vm.info`, as text into which the core writes the memory that the guest has. */

import type { MemoryText } from '../../native.ts';
import { headOf, type LiveMemory } from './httpResponse.ts';
import { writeJson } from './jsonWriter.ts';

/** The same bytes as the answer with the JSON of `info`, if the guest has as much as it says there. */
export function memoryText({ info, bytes }: LiveMemory): MemoryText {
  const { config, state, memory_actual_size: left, ...others } = info;
  const rest = Object.keys(others).length === 0 ? '}' : `,${writeJson(others).slice(1)}`;
  return {
    ...headOf(200),
    before: `${writeJson({ config, state }).slice(0, -1)},"memory_actual_size":`,
    after: rest,
    memory: bytes,
    left: Number(left),
  };
}
