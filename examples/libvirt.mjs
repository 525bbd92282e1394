/**
 * Starts a guest under a daemon that speaks libvirt's protocol, `tsvmmd` unless it is told otherwise, and shows its
 * console until it ends.
 *
 *   bin/tsvmmd --dir /tmp/vms &
 *   node examples/libvirt.mjs KERNEL 'tsvmm+unix:///system?socket=/tmp/vms/virttsvmmd-sock'
 */
import { connect } from 'tsvmm/libvirt';

const [kernel, uri] = process.argv.slice(2);
if (kernel === undefined || uri === undefined) throw new Error('usage: node examples/libvirt.mjs KERNEL URI');

const document = `<domain type='kvm'>
  <name>libvirt-example</name>
  <memory unit='MiB'>512</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64'>hvm</type><kernel>${kernel}</kernel><cmdline>console=ttyS0</cmdline></os>
  <devices><serial type='pty'/></devices>
</domain>`;

const connection = await connect(uri);
console.log(`${await connection.type()} on ${await connection.hostname()}`);
const events = await connection.domainEvents('lifecycle');
// Paused, so that nothing of what the guest prints is missed. A domain that is created rather than defined is gone when
// it has ended.
const domain = await connection.createDomain(document, { paused: true, autoDestroy: true });
const console_ = await domain.openConsole();
console_.on('data', (chunk) => process.stdout.write(chunk));
await domain.resume();
for await (const { domain: of, event, detail } of events) {
  if (of.uuid !== domain.uuid) continue;
  console.log(`${of.name}: ${event} (${detail})`);
  if (event === 'stopped') break;
}
await connection.close();
