/** Networks in the lab that last as long as a test, and what measures them. */
import { onTestFinished } from 'vitest';
import type { Lab } from '../../scripts/lab/lab.mjs';
import { inLab } from './harness.ts';

/** Words that run a command in a network namespace of its own, with its loopback interface up. */
export async function namespace(lab: Lab, name: string): Promise<readonly string[]> {
  await inLab(lab, `ip netns add ${name} && ip -n ${name} link set lo up`);
  onTestFinished(async () => {
    await inLab(lab, `ip netns del ${name}`);
  });
  return ['ip', 'netns', 'exec', name];
}

/** Runs a command in the lab until the test is over. */
export function runBeside(lab: Lab, command: readonly string[]): void {
  const job = lab.start({ command, onStdout: () => {}, onStderr: () => {} });
  onTestFinished(async () => {
    job.kill(9);
    await job.exited;
  });
}

/** An iperf3 server, once it serves. */
export async function iperfServer(lab: Lab, wrapper: readonly string[]): Promise<void> {
  runBeside(lab, [...wrapper, 'iperf3', '-s']);
  await listening(lab, wrapper, 5201);
}

/** Waits until somebody listens on a TCP port. */
export async function listening(lab: Lab, wrapper: readonly string[], port: number): Promise<void> {
  await inLab(lab, `${wrapper.join(' ')} sh -c '${untilListening(port)}'`);
}

/** A line of shell that ends when somebody listens on a TCP port. */
export function untilListening(port: number): string {
  return `until ss -Hltn "sport = :${port}" | grep -q .; do sleep 0.1; done`;
}

/** Bytes of a transfer of iperf3 that came to its end. */
export function transferred(json: string): number {
  const { end } = JSON.parse(json) as { readonly end: { readonly sum_sent: { readonly bytes: number } } };
  return end.sum_sent.bytes;
}
