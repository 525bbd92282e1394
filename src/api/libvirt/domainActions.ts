/**
 * What happens to a domain after its guest has powered off, reset or crashed: elements of its document, and policies of
 * the supervisor.
 */
import type { VmPolicy } from '../../supervisor/definition.ts';
import { unsupportedConfiguration } from './errors.ts';
import { type Element, element, textAt } from './xml.ts';

export interface Actions {
  readonly restart: VmPolicy['restart']['when'];
  readonly endOn: VmPolicy['end_on'];
}

/** virDomainLifecycleAction, as far as there is one here; the first is what libvirt takes where there is none. */
const ALLOWED = {
  on_poweroff: ['destroy', 'restart'],
  on_reboot: ['restart', 'destroy'],
  on_crash: ['destroy', 'restart'],
} as const;

/** @param panics the guest has a device by which it says that it has crashed @throws LibvirtError naming the element */
export function readActions(root: Element, panics: boolean): Actions {
  const [onPowerOff, onReboot, onCrash] = [
    action(root, 'on_poweroff'),
    action(root, 'on_reboot'),
    action(root, 'on_crash'),
  ];
  if (onPowerOff === 'restart' && (onReboot === 'destroy' || onCrash === 'destroy')) {
    throw unsupportedConfiguration("<on_poweroff> 'restart' without <on_reboot> and <on_crash> 'restart'");
  }
  return {
    restart: onPowerOff === 'restart' ? 'Always' : onCrash === 'restart' ? 'OnFailure' : 'Never',
    endOn: [...(onReboot === 'destroy' ? (['reset'] as const) : []), ...(panics ? (['panic'] as const) : [])],
  };
}

function action<K extends keyof typeof ALLOWED>(root: Element, name: K): (typeof ALLOWED)[K][number] {
  const allowed: readonly (typeof ALLOWED)[K][number][] = ALLOWED[name];
  const text = textAt(root, name) || allowed[0];
  const found = allowed.find((each) => each === text);
  if (found === undefined) throw unsupportedConfiguration(`<${name}> '${text}'`);
  return found;
}

export function actionElements({ restart, endOn }: Actions): Element[] {
  return [
    element('on_poweroff', {}, restart === 'Always' ? 'restart' : 'destroy'),
    element('on_reboot', {}, endOn.includes('reset') ? 'destroy' : 'restart'),
    element('on_crash', {}, restart === 'Never' ? 'destroy' : 'restart'),
  ];
}
