/** Endpoints that change what a VM consists of. */
import { decode } from '../../config/decode.ts';
import { type DeviceKind, deviceLists } from '../../config/deviceLists.ts';
import { vmRemoveDevice, vmResizeZone } from '../../config/requests.ts';
import { type Call, dropDescriptorNumbers, type Endpoint, type Endpoints, order } from './endpoint.ts';
import { type Answer, noContent } from './httpResponse.ts';
import { RequestError } from './requestError.ts';

export const deviceEndpoints: Endpoints = {
  'vm.resize-zone': order(vmResizeZone, async ({ vmm, json }) => {
    const { id, desired_ram } = decode(vmResizeZone, json);
    await vmm.resizeZone(id, desired_ram);
  }),
  'vm.add-device': addEndpoint('device', addHostDevice),
  'vm.add-user-device': addEndpoint('user-device'),
  'vm.add-disk': addEndpoint('disk'),
  'vm.add-fs': addEndpoint('fs'),
  'vm.add-generic-vhost-user': addEndpoint('generic-vhost-user'),
  'vm.add-pmem': addEndpoint('pmem'),
  'vm.add-net': addEndpoint('net', addNet),
  'vm.add-vdpa': addEndpoint('vdpa'),
  'vm.add-vsock': addEndpoint('vsock'),
  'vm.remove-device': order(vmRemoveDevice, ({ vmm, json }) =>
    vmm.removeDevice(decode(vmRemoveDevice, json).id),
  ),
};

function addEndpoint(
  kind: DeviceKind,
  handle: Endpoint['handle'] = (call) => add(call, kind, decode(deviceLists[kind].shape, call.json)),
): Endpoint {
  return { method: 'PUT', body: deviceLists[kind].shape, silent: true, handle };
}

/** A VM that runs would answer with the device's place, but none takes devices yet. */
async function add(
  { vmm }: Call,
  kind: DeviceKind,
  device: object,
  descriptors: number[] = [],
): Promise<Answer> {
  await vmm.addDevice(kind, device, descriptors);
  return noContent;
}

/** Each descriptor is a pair of queues of a tap. */
function addNet(call: Call): Promise<Answer> {
  dropDescriptorNumbers(call.json, 'fds');
  const net = decode(deviceLists.net.shape, call.json);
  const fds = call.descriptors.take();
  return add(call, 'net', fds.length > 0 ? { ...net, fds } : net, fds);
}

/** By its path, or a descriptor of it. */
function addHostDevice(call: Call): Answer | Promise<Answer> {
  if (call.descriptors.count > 1) throw new RequestError('descriptors');
  dropDescriptorNumbers(call.json, 'fd');
  const device = decode(deviceLists.device.shape, call.json);
  const fds = call.descriptors.take();
  return add(call, 'device', fds.length > 0 ? { ...device, fd: fds[0] } : device, fds);
}
