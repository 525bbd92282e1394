/** The answer with what a VM is, as text in which the core puts the memory that the balloon leaves. */

import { memorySize } from '../../config/memory.ts';
import { balloon } from '../../devices/balloon.ts';
import { idOf } from '../../devices/registry.ts';
import type { BalloonText } from '../../native.ts';
import type { VmInfo } from '../../vmm/info.ts';
import { headOf } from './httpResponse.ts';
import { writeJson } from './jsonWriter.ts';

/** The same bytes as the answer with the JSON of `info`, if its balloon is as it is there. */
export function balloonText(info: VmInfo): BalloonText {
  const { config, state, memory_actual_size: left, device_tree: tree } = info;
  const memory = Number(memorySize(config.memory));
  const rest = tree === undefined ? '}' : `,"device_tree":${writeJson(tree)}}`;
  return {
    ...headOf(200),
    before: `${writeJson({ config, state }).slice(0, -1)},"memory_actual_size":`,
    after: rest,
    memory,
    device: idOf(balloon, config.balloon as object),
    balloon: memory - Number(left),
  };
}
