/** Finds the sockets of a supervisor's VM by its name, without asking the supervisor. */

import { VmFile, vmsFolder } from '../../api/vmhost/folderFiles.ts';
import { nearest } from '../../config/nearest.ts';
import { supervisorPlaces } from '../../supervisor/places.ts';
import { VmmError } from '../../vmm/errors.ts';

export interface NamedVm {
  readonly folder: string;
  readonly apiSocket: string;
}

/** Names of all VMs that are defined. */
async function vmNames(dir: string | undefined): Promise<string[]> {
  const { readdir } = await import('node:fs/promises');
  return readdir(vmsFolder(supervisorPlaces(dir, process.env).root)).then(
    (names) => names.filter((name) => !name.startsWith('.')).sort(),
    () => [],
  );
}

/**
 * @param dir the supervisor's, if it was given
 * @throws VmmError if there is no such VM, or it does not run
 */
export async function findVm(name: string, dir: string | undefined): Promise<NamedVm> {
  const { stat } = await import('node:fs/promises');
  const root = vmsFolder(supervisorPlaces(dir, process.env).root);
  const folder = `${root}/${name}`;
  const isThere = (path: string) =>
    stat(path).then(
      () => true,
      () => false,
    );
  if (name.includes('/') || name.startsWith('.') || !(await isThere(folder))) {
    const near = nearest(name, await vmNames(dir));
    const hint = near ? `; did you mean "${near}"?` : ": 'tsvmm ps -a' lists those that there are";
    throw new VmmError(`There is no VM ${name} in ${root}${hint}`, { kind: 'missing' });
  }
  const apiSocket = `${folder}/${VmFile.apiSocket}`;
  if (await isThere(apiSocket)) return { folder, apiSocket };
  throw new VmmError(`The VM ${name} does not run: 'tsvmm start ${name}' starts it`);
}
