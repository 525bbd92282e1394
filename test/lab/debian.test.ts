/** All of Debian, with its systemd, as a domain of `tsvmmd` that Debian's own virsh looks after. */
import fs from 'node:fs';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { AGENT_LIBRARIES, AGENT_PROGRAM, makeAgentDisk } from '../../scripts/lab/agentDisk.mjs';
import { readmeGuest, workplace } from '../../scripts/lab/readme.mjs';
import { GUEST_AGENT_PORT } from '../../src/api/vmhost/guestAgent.ts';
import { DEBIAN_SECONDS, inLab, sharedLab } from './harness.ts';
import { type Console, virshOfLab } from './virsh.ts';

const DEBIAN_MS = DEBIAN_SECONDS * 1000;
/**
 * Without what looks for LVM's volumes half a minute long; and a busy emulation takes longer than systemd is patient.
 */
const LIGHTER = 'systemd.mask=e2scrub_reap.service systemd.default_timeout_start_sec=900';
/** VMADDR_CID_ANY */
const ANY_CID = 2 ** 32 - 1;
/** Says how systemd is once everything has been started. */
const STATE = 'echo state: $(systemctl is-system-running --wait)';

async function login(console: Console): Promise<void> {
  await console.shows('login: ', DEBIAN_MS);
  console.type('root\n');
  await console.shows('root@', DEBIAN_MS);
}

/** Runs a line in the guest's shell: `done` shows that it has come to its end. */
async function types(console: Console, line: string, shows: string): Promise<void> {
  console.type(`${line}; echo do''ne\n`);
  await console.shows(shows, DEBIAN_MS);
  await console.shows('done', DEBIAN_MS);
}

test('it is logged into, suspended, given a disk, and shut down: by its agent, by its button, by force', {
  timeout: 5 * DEBIAN_MS,
}, async () => {
  const { folder, inLab: at } = await workplace(await readmeGuest(), 'virsh-debian');
  onTestFinished(() => fs.rmSync(folder, { recursive: true }));
  const virsh = await virshOfLab();
  await virsh.define(
    'debian',
    `<memory unit='GiB'>1</memory><vcpu>1</vcpu>
       <os><type arch='x86_64'>hvm</type><kernel>${at}/vmlinuz</kernel><initrd>${at}/initrd.img</initrd>
         <cmdline>console=ttyS0 root=/dev/vda rw ${LIGHTER}</cmdline></os>
       <devices>
         <disk type='file'><source file='${at}/root.img'/><target dev='vda' bus='virtio'/></disk>
         <vsock model='virtio'><cid auto='no' address='5'/></vsock><serial type='pty'/>
       </devices>`,
  );
  await virsh.run('start', 'debian');
  const console = virsh.console('debian');
  await login(console);
  await types(console, STATE, 'state: running');

  await virsh.run('suspend', 'debian');
  expect(await virsh.run('domstate', '--reason', 'debian')).toBe('paused (user)');
  console.type("echo awake''ned\n");
  await new Promise((resolve) => setTimeout(resolve, 1500));
  expect(console.shown).not.toContain('awake');
  await virsh.run('resume', 'debian');
  await console.shows('awakened');

  await inLab(await sharedLab(), 'truncate -s 24M /tmp/virsh-disk.img');
  await virsh.run('attach-disk', 'debian', '/tmp/virsh-disk.img', 'vdb', '--live');
  const sectors = 'cat /sys/block/vdb/size 2>/dev/null';
  await types(console, `until ${sectors}; do sleep 1; done`, String((24 << 20) / 512));
  await virsh.run('detach-disk', 'debian', 'vdb', '--live');
  await types(console, `while ${sectors}; do sleep 1; done; echo go''ne`, 'gone');

  await makeAgentDisk(path.join(folder, 'agent.img'));
  await virsh.run('attach-disk', 'debian', `${at}/agent.img`, 'vdb', '--mode', 'readonly');
  const mount = 'until mount -r /dev/vdb /mnt 2>/dev/null; do sleep 1; done';
  const agent = `/mnt/${AGENT_PROGRAM} -m vsock-listen -p ${ANY_CID}:${GUEST_AGENT_PORT}`;
  const begin = `systemd-run --setenv=LD_LIBRARY_PATH=/mnt/${AGENT_LIBRARIES} ${agent}`;
  await types(console, `${mount}; ${begin}`, 'Running as unit');
  // What listens may be a moment late.
  const byAgent = async () => (await virsh.try('shutdown', '--mode', 'agent', 'debian')).code;
  await expect.poll(byAgent, { timeout: DEBIAN_MS, interval: 2000 }).toBe(0);
  await virsh.shutsOff('debian', 'shutdown', DEBIAN_MS);
  await expect.poll(() => console.closed, { timeout: 60_000 }).toBe(true);

  await virsh.run('start', 'debian');
  const again = virsh.console('debian');
  await login(again);
  await types(again, STATE, 'state: running');
  await virsh.run('shutdown', '--mode', 'acpi', 'debian');
  await virsh.shutsOff('debian', 'shutdown', DEBIAN_MS);

  await virsh.run('start', 'debian');
  await virsh.console('debian').shows('Run /init as init process', DEBIAN_MS);
  await virsh.run('destroy', 'debian');
  await virsh.shutsOff('debian', 'destroyed');
  await virsh.run('undefine', 'debian');
});
