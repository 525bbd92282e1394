/** An error that a VM's REST API has answered. */
import { VmmError } from '../../vmm/errors.ts';
import type { ApiAnswer } from './httpAnswer.ts';

/** With which refusals of commands begin: they say nothing. */
const HEADINGS: readonly string[] = ['Error from API', 'Too Many Requests'];

export class Refusal extends VmmError {
  readonly status: number;
  /** As the API tells them, outermost first; empty if it told nothing. */
  readonly messages: readonly string[];

  constructor(answer: ApiAnswer) {
    const messages = messagesOf(answer.body);
    const told = messages.filter(
      (message, at) => at > 0 || messages.length === 1 || !HEADINGS.includes(message),
    );
    super(told.length > 0 ? told.join(': ') : `The VMM refused, with status ${answer.status} and no reason`);
    this.status = answer.status;
    this.messages = messages;
  }
}

/**
 * A list of texts; a problem (RFC 9457), as where the API is strict; or an object with one, as other servers and the
 * reference's HTTP library have it.
 */
function messagesOf(body: string): string[] {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    // The reference's library writes a line end into its JSON.
    return body === '' ? [] : [body.slice(0, 1000)];
  }
  if (Array.isArray(value)) return value.map((one) => (typeof one === 'string' ? one : JSON.stringify(one)));
  const { error, title, detail } = (value ?? {}) as { error?: unknown; title?: unknown; detail?: unknown };
  const texts = [error, title, detail].filter((one) => typeof one === 'string');
  return texts.length > 0 ? texts : [body.slice(0, 1000)];
}
