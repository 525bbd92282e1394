/**
 * Updates of domains' devices: in the definition everything that a document says of one; in the machine what can change
 * while it runs, which is nothing of disks, interfaces and the socket.
 */
import type { VmConfigInput } from '../../config/vmConfig.ts';
import type { SupervisedVm } from '../../supervisor/supervisedVm.ts';
import { meant, type Present, presentIn, withReplaced } from './attachments.ts';
import { deviceElement } from './deviceDocument.ts';
import { type Attachable, attachableOf, UPDATED_FIELDS } from './deviceXml.ts';
import type { Domains } from './domains.ts';
import { unsupportedOperation } from './errors.ts';
import type { Impact } from './impact.ts';
import { updateMemory } from './memoryDevices.ts';
import type { Element } from './xml.ts';

const UPDATABLE = ['disk', 'interface', 'vsock', 'memory'];

/** @throws LibvirtError with nothing changed */
export async function updateDevice(
  domains: Domains,
  vm: SupervisedVm,
  root: Element,
  impact: Impact,
): Promise<void> {
  if (!UPDATABLE.includes(root.name)) {
    throw unsupportedOperation(
      `a device of type '${root.name}' cannot be updated: ${UPDATABLE.join(', ')} can`,
    );
  }
  if (root.name === 'memory') return updateMemory(domains, vm, root, impact);
  const given = attachableOf(root);
  const which = meant(given);
  if (impact.live) checkUnchanged(which(presentIn(await domains.refresh(vm))), given);
  if (!impact.config) return;
  const { config } = vm.definition;
  domains.reconfigure(vm, withUpdated(config, which(presentIn(config)), given));
}

/** @throws LibvirtError naming what is another */
function checkUnchanged(present: Present, given: Attachable): void {
  const updated = updatedOf(present, given);
  const changed = differences(deviceElement(present, present.key), deviceElement(updated, present.key));
  if (changed.length === 0) return;
  const names = changed.map((name) => `<${name}>`).join(', ');
  throw unsupportedOperation(
    `cannot modify ${names} of ${present.key || 'the vsock'} while the machine runs`,
  );
}

/** Names of elements below two of the same name that are not the same; their own where its attributes are not. */
function differences(one: Element, other: Element): string[] {
  const all = [one, other].map(
    ({ name, attributes, children }) =>
      new Map([
        [name, JSON.stringify(attributes)],
        ...children.map((each) => [each.name, JSON.stringify(each)] as const),
      ]),
  ) as [Map<string, string>, Map<string, string>];
  const names = new Set([...all[0].keys(), ...all[1].keys()]);
  return [...names].filter((name) => all[0].get(name) !== all[1].get(name));
}

/** What a document does not speak of stays. */
function updatedOf(present: Present, given: Attachable): Attachable {
  const fields: readonly string[] = UPDATED_FIELDS[present.kind];
  const kept = Object.entries(present.device).filter(([name]) => !fields.includes(name));
  return { kind: present.kind, device: { ...given.device, ...Object.fromEntries(kept) } } as Attachable;
}

function withUpdated(config: VmConfigInput, present: Present, given: Attachable): VmConfigInput {
  return withReplaced(config, present, updatedOf(present, given));
}
