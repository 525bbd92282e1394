/** Describes requests that the guest has not carried out yet, by `vm.info`. */
import { humanBytes } from '../vms/table.ts';
import { bytesText, listText, objectOf } from './values.ts';

/** The vCPUs that a VM has, and what of that is the guest's business still. */
export function vcpusText(info: unknown): string {
  const { config, pending_vcpus } = objectOf(info);
  const { boot_vcpus: count, max_vcpus: max } = objectOf(objectOf(config).cpus);
  const pending = vcpusPending(pending_vcpus);
  const most = max === count ? '' : ` of ${listText([max])}`;
  return `${listText([count])}${most}${pending === '' ? '' : ` (${pending})`}`;
}

/** The memory that its guest has, and what it is asked to have where that is something else. */
export function memoryText(info: unknown): string {
  const { memory_actual_size: has, memory_requested_size: asked } = objectOf(info);
  const differs = asked !== undefined && asked !== has;
  return `${bytesText(has)}${differs ? ` (asked to have ${bytesText(asked)})` : ''}`;
}

/** What a VM is waited for; empty if nothing. @param device that is being removed */
export function pendingText(info: unknown, device?: string): string {
  const {
    pending_vcpus,
    memory_actual_size: has,
    memory_requested_size: asked,
    device_tree,
  } = objectOf(info);
  const node = device === undefined ? {} : objectOf(objectOf(device_tree)[device]);
  return [
    vcpusPending(pending_vcpus),
    isNumber(asked) && isNumber(has) && asked !== has
      ? `memory ${humanBytes(has)}, asked to have ${humanBytes(asked)}`
      : '',
    node.pending_removal === true ? 'the guest has it still' : '',
  ]
    .filter((text) => text !== '')
    .join('; ');
}

function isNumber(value: unknown): value is number | bigint {
  return typeof value === 'number' || typeof value === 'bigint';
}

function vcpusPending(value: unknown): string {
  const { starting, leaving } = objectOf(value);
  const texts = [
    ['not started yet', starting],
    ['not given up yet', leaving],
  ] as const;
  return texts
    .filter(([, vcpus]) => Array.isArray(vcpus) && vcpus.length > 0)
    .map(([what, vcpus]) => `${what}: ${listText(vcpus as unknown[])}`)
    .join(', ');
}
