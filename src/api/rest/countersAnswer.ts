/** The answer with a machine's counters, as text into which the core writes their values. */
import type { CountersText } from '../../native.ts';
import type { Counters } from '../../vmm/machineFigures.ts';
import { headOf } from './httpResponse.ts';

/** The same bytes as the answer with the JSON of `counters`, if the values are those. */
export function countersText(counters: Counters): CountersText {
  const pieces: { text: string; device: string; counter: string }[] = [];
  let text = '{';
  let separator = '';
  for (const [device, values] of Object.entries(counters)) {
    text += `${separator}${JSON.stringify(device)}:{`;
    separator = '';
    for (const counter of Object.keys(values)) {
      pieces.push({ text: `${text}${separator}${JSON.stringify(counter)}:`, device, counter });
      text = '';
      separator = ',';
    }
    text += '}';
    separator = ',';
  }
  return { ...headOf(200), pieces, tail: `${text}}` };
}
