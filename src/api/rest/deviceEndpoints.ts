/** Endpoints that add, remove and resize parts of a VM. */
import { decode } from '../../config/decode.ts';
import { vmRemoveDevice, vmResizeZone } from '../../config/requests.ts';
import { type AddableDevice, addableDevices } from '../../devices/registry.ts';
import type { DevicePlace } from '../../vmm/hotplug.ts';
import { type Call, dropDescriptorNumbers, type Endpoint, type Endpoints, order } from './endpoint.ts';
import { type Answer, jsonAnswer, noContent } from './httpResponse.ts';
import { RequestError } from './requestError.ts';

export const deviceEndpoints: Endpoints = {
  'vm.resize-zone': order(vmResizeZone, async ({ vmm, json, client }) => {
    const { id, desired_ram, wait_ms } = decode(vmResizeZone, json);
    await vmm.resizeZone(id, desired_ram, wait_ms, client);
  }),
  ...Object.fromEntries(addableDevices().map((one) => [`vm.add-${one.name}`, addEndpoint(one)])),
  'vm.remove-device': order(vmRemoveDevice, ({ vmm, json, client }) => {
    const { id, wait_ms: waitMs, force } = decode(vmRemoveDevice, json);
    if (waitMs === undefined) return vmm.removeDevice(id, { force });
    // With force the device is taken in the end, even if the client has left.
    return vmm.removeDevice(id, force ? { force, waitMs } : { force, waitMs, signal: client.signal });
  }),
};

function addEndpoint(addable: AddableDevice): Endpoint {
  return { method: 'PUT', body: addable.shape, silent: true, handle: (call) => add(call, addable) };
}

/** A machine answers with the device's place. */
async function add(call: Call, { name, shape, descriptors }: AddableDevice): Promise<Answer> {
  if (descriptors === undefined) {
    return placed(await call.vmm.addDevice(name, decode(shape, call.json), []));
  }
  const { field, many } = descriptors;
  if (!many && call.descriptors.count > 1) throw new RequestError('descriptors');
  dropDescriptorNumbers(call.json, field);
  const device = decode(shape, call.json) as object;
  const fds = call.descriptors.take();
  const withDescriptors = fds.length > 0 ? { ...device, [field]: many ? fds : fds[0] } : device;
  return placed(await call.vmm.addDevice(name, withDescriptors, fds));
}

function placed(place: DevicePlace | undefined): Answer {
  return place === undefined ? noContent : jsonAnswer(place);
}
