/** The answer with what a VM is, as text in which the core puts the memory that its guest has. */

import { memorySize } from '../../config/memory.ts';
import type { MemoryText } from '../../native.ts';
import type { VmInfo } from '../../vmm/info.ts';
import { headOf } from './httpResponse.ts';
import { writeJson } from './jsonWriter.ts';

/** The same bytes as the answer with the JSON of `info`, if the guest has as much as it says there. */
export function memoryText(info: VmInfo): MemoryText {
  const { config, state, memory_actual_size: left, device_tree: tree } = info;
  const rest = tree === undefined ? '}' : `,"device_tree":${writeJson(tree)}}`;
  return {
    ...headOf(200),
    before: `${writeJson({ config, state }).slice(0, -1)},"memory_actual_size":`,
    after: rest,
    memory: Number(memorySize(config.memory)),
    left: Number(left),
  };
}
