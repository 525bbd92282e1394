/** Requests to a guest's agent, if it has one. */
import { resolve } from 'node:path';
import type { VmConfigInput } from '../../config/vmConfig.ts';
import { connectVsock } from '../../host/vsockClient.ts';
import type { SupervisedVm } from '../../supervisor/supervisedVm.ts';
import { GUEST_AGENT_PORT, GuestAgent } from '../vmhost/guestAgent.ts';
import { within } from '../vmhost/stopLadder.ts';
import { Code, Domain, LibvirtError } from './errors.ts';

const ANSWER_MS = 5_000;

/** Returns when the agent has accepted. @throws LibvirtError if there is none, or it does not accept */
export async function shutDownByAgent(vm: SupervisedVm, { vsock }: VmConfigInput): Promise<void> {
  if (!vsock) throw unresponsive('the domain has no vsock, by which an agent is reached');
  try {
    const path = resolve(vm.folder, vsock.socket);
    const agent = new GuestAgent(
      await within(ANSWER_MS, (signal) => connectVsock(path, GUEST_AGENT_PORT, signal)),
    );
    try {
      await agent.shutDown(ANSWER_MS);
    } finally {
      agent.close();
    }
  } catch (error) {
    throw unresponsive((error as Error).message);
  }
}

export function unresponsive(why: string): LibvirtError {
  return new LibvirtError(Code.agentUnresponsive, Domain.domain, `Guest agent is not responding: ${why}`);
}
