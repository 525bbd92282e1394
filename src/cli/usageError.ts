import type { Subject } from '../config/configError.ts';

/** The command line cannot be understood: exit code 2. */
export class UsageError extends Error {
  readonly subject: Subject | undefined;

  constructor(message: string, subject?: Subject) {
    super(message);
    this.name = 'UsageError';
    this.subject = subject;
  }
}

/** What Node.js says of words that it cannot parse, which may be several lines, in one. */
export function unparsed(error: unknown): UsageError {
  return new UsageError((error as Error).message.replace(/\s*\n\s*/g, ' '));
}
