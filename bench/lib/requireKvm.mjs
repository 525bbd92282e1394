import fs from 'node:fs';
import { Failure } from '../../scripts/lib/progress.mjs';

/** Throws a Failure with the reason if this process may not use KVM. */
export function requireKvm() {
  try {
    fs.accessSync('/dev/kvm', fs.constants.R_OK | fs.constants.W_OK);
  } catch (error) {
    throw new Failure(`/dev/kvm cannot be used: ${/** @type {Error} */ (error).message}`);
  }
}
