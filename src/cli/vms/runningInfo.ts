/** `vm.info` of a running VM, by way of its supervisor. */
import type { Uint64 } from '../../config/uint64.ts';
import { describeError } from '../../vmm/errors.ts';
import type { SupervisorClient } from './supervisorClient.ts';

/** A process that hangs is not waited for: it may be the reason for the question. */
const ANSWER_MS = 2_000;

/** What of it is used. */
export interface Info {
  readonly config: { readonly cpus: { readonly boot_vcpus: number } };
  readonly memory_actual_size: Uint64;
}

/** Resolves to an error, which says why, if it does not answer. */
export async function runningInfo(
  client: Pick<SupervisorClient, 'call'>,
  name: string,
  answerMs = ANSWER_MS,
): Promise<Info | Error> {
  const signal = AbortSignal.timeout(answerMs);
  try {
    return await client.call<Info>('GET', `/v1/vms/${name}/api/api/v1/vm.info`, undefined, signal);
  } catch (error) {
    return new Error(
      signal.aborted ? `it does not answer within ${answerMs / 1000} s` : describeError(error),
    );
  }
}
