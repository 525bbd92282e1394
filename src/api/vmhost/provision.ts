/**
 * Gives the guest's agent what masterblaster's daemon expects a VM's process to give it: the card, a key for SSH,
 * secrets.
 */
import { readFileSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { sleep } from '../../host/sleep.ts';
import { connectVsock } from '../../host/vsockClient.ts';
import { GUEST_AGENT_PORT, GuestAgent } from './guestAgent.ts';
import { within } from './stopLadder.ts';
import type { VmFolder } from './vmFolder.ts';

/** How long the guest may take until its agent answers. */
const AGENT_START_MS = 110_000;
const RETRY_MS = 200;
const ANSWER_MS = 10_000;
/** Whose key it is in the guest. */
const SSH_USER = 'admin';

/**
 * Waits until the agent answers, and gives it what it is to have.
 * @param gone aborted when the VM is gone
 * @throws Error if the agent does not answer in time, or refuses something
 */
export async function provisionGuest(
  folder: VmFolder,
  vsockSocket: string,
  gone: AbortSignal,
): Promise<void> {
  const { daemon, path } = folder;
  if (daemon === undefined) return;
  const agent = await connect(vsockSocket, gone);
  try {
    await agent.request('set_config', { content: daemon.cardText }, ANSWER_MS);
    const key = publicKey(path, daemon.state.sshKeyPath);
    if (key !== undefined)
      await agent.request('inject_ssh_key', { user: SSH_USER, public_key: key }, ANSWER_MS);
    for (const [name, value] of daemon.card.secrets) {
      await agent.request('inject_secret', { name, value }, ANSWER_MS);
    }
  } finally {
    agent.close();
  }
}

async function connect(vsockSocket: string, gone: AbortSignal): Promise<GuestAgent> {
  const deadline = performance.now() + AGENT_START_MS;
  for (;;) {
    try {
      return await reach(vsockSocket);
    } catch (error) {
      if (gone.aborted) throw new Error('the VM is gone');
      if (performance.now() > deadline) {
        throw new Error(`the guest's agent did not answer for ${AGENT_START_MS / 1000} s`, { cause: error });
      }
    }
    await sleep(RETRY_MS);
  }
}

/** A guest without a driver for the device does not even refuse. */
async function reach(vsockSocket: string): Promise<GuestAgent> {
  const agent = new GuestAgent(
    await within(ANSWER_MS, (signal) => connectVsock(vsockSocket, GUEST_AGENT_PORT, signal)),
  );
  try {
    await agent.request('ping', undefined, ANSWER_MS);
    return agent;
  } catch (error) {
    agent.close();
    throw error;
  }
}

/** Beside the private one; undefined if the daemon made none. */
function publicKey(vmDir: string, privateKeyPath: string | undefined): string | undefined {
  if (privateKeyPath === undefined) return undefined;
  const path = isAbsolute(privateKeyPath) ? privateKeyPath : join(vmDir, privateKeyPath);
  return readFileSync(`${path}.pub`, 'utf8').trim();
}
