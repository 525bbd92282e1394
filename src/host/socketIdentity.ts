/** Tells a socket from a later one at the same path. */
import { stat } from 'node:fs/promises';

/** Undefined if there is none. A file of the same inode that was made anew has another time. */
export function socketIdentity(path: string): Promise<string | undefined> {
  return stat(path, { bigint: true }).then(
    ({ dev, ino, ctimeNs }) => `${dev}:${ino}:${ctimeNs}`,
    () => undefined,
  );
}
