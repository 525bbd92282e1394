/** Messages of a VM's process to the supervisor, over any connection: lines of JSON, bounded, and not trusted. */
import { StringDecoder } from 'node:string_decoder';
import { MAX_VMHOST_MESSAGE } from '../api/vmhost/protocol.ts';
import type { StreamConnection, StreamHandlers } from '../host/listen.ts';
import type { VmmEvent, VmmExit } from '../vmm/events.ts';

/** One line: an answer, an event, or the end. */
export interface ChildMessage {
  readonly hello?: { readonly pid: number; readonly name?: string };
  readonly ok?: boolean;
  readonly error?: string;
  readonly state?: string;
  readonly paused?: boolean;
  readonly uptime_seconds?: number;
  readonly event?: VmmEvent;
  readonly exit?: VmmExit;
}

/**
 * Reads a connection line by line until it is closed. One that sends what is no message is closed.
 * @param closed comes last, once
 */
export function hearChild(
  connection: StreamConnection,
  message: (message: ChildMessage) => void,
  closed: () => void,
): StreamHandlers {
  const decoder = new StringDecoder('utf8');
  let rest = '';
  const data = (bytes: Uint8Array) => {
    const lines = (rest + decoder.write(bytes)).split('\n');
    rest = lines.pop() as string;
    if (rest.length > MAX_VMHOST_MESSAGE) connection.terminate();
    for (const line of lines) {
      const parsed = parse(line);
      if (parsed === undefined) return connection.terminate();
      message(parsed);
    }
  };
  // Its end is the only sign that a process has gone.
  return { data, ended: () => connection.terminate(), drained: () => {}, closed };
}

function parse(line: string): ChildMessage | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? (value as ChildMessage) : undefined;
  } catch {
    return undefined;
  }
}
