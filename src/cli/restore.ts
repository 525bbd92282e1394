/** `--restore`: parsed as the reference does, and refused because restoring is not supported yet. */
import { ConfigError } from '../config/configError.ts';
import { decode } from '../config/decode.ts';
import { restoreConfig } from '../config/restore.ts';
import { objectFromOptions } from './schemaOptions.ts';

/** @throws ConfigError */
export function refuseRestore(text: string): never {
  decode(restoreConfig, objectFromOptions(restoreConfig, '--restore', text), '--restore');
  throw new ConfigError('unsupported', '--restore is not supported yet: there are no snapshots');
}
