/** Commands of the reference that are not supported yet: invalid requests are refused as such first. */
import {
  type ReceiveMigrationData,
  type SendMigrationData,
  validateReceiveMigration,
  validateSendMigration,
} from '../config/migration.ts';
import { type RestoreConfig, validateRestore } from '../config/restore.ts';
import { notSupportedYet, refuseInvalid, VmmError } from './errors.ts';

const FILE_URL = 'file://';

/** @throws VmmError */
export function refuseSnapshot(url: string): never {
  checkFileUrl(url, 'snapshot destination');
  throw notSupportedYet('Taking a snapshot');
}

/** @throws VmmError */
export function refuseCoredump(url: string): never {
  checkFileUrl(url, 'core dump destination');
  throw notSupportedYet('Writing a core dump');
}

/** @throws VmmError */
export function refuseRestore(restore: RestoreConfig): never {
  refuseInvalid(() => validateRestore(restore));
  if (!restore.source_url.startsWith(FILE_URL)) {
    const cause = new VmmError(`"${restore.source_url}" does not begin with ${FILE_URL}`, {
      code: 'ERR_TSVMM_CONFIG',
    });
    throw new VmmError('Invalid restore source URL', { cause });
  }
  throw notSupportedYet('Restoring a snapshot');
}

/** @throws VmmError */
export function refuseSendMigration(data: SendMigrationData): never {
  refuseMigration(() => validateSendMigration(data));
}

/** @throws VmmError */
export function refuseReceiveMigration(data: ReceiveMigrationData): never {
  refuseMigration(() => validateReceiveMigration(data));
}

/** The reference answers 500 to wrong parameters as well. */
function refuseMigration(validate: () => void): never {
  try {
    validate();
  } catch (error) {
    throw new VmmError('Invalid migration parameters', { kind: 'failed', cause: error });
  }
  throw notSupportedYet('Migrating a VM');
}

function checkFileUrl(url: string, what: string): void {
  if (url.startsWith(FILE_URL)) return;
  throw new VmmError(`The ${what} "${url}" does not begin with ${FILE_URL}`, { code: 'ERR_TSVMM_CONFIG' });
}
