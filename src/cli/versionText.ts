/** What `--version` prints. */
import path from 'node:path';
import { API_VERSION, commit, FEATURES, packageVersion } from '../vmm/version.ts';

/** Of the reference's program. */
const REFERENCE_NAME = 'cloud-hypervisor';

/**
 * A link of the reference's name says what its clients read there: libvirt's driver looks for the release behind the
 * name, and does nothing without it.
 * @param calledAs the path that the program was started by
 */
export function versionText(calledAs: string, verbose: boolean): string {
  const ours = `tsvmm v${packageVersion}${commit === undefined ? '' : ` (${commit})`}`;
  if (path.basename(calledAs) !== REFERENCE_NAME) return `${ours}\n`;
  const lines = [`${REFERENCE_NAME} v${API_VERSION}`, ours, 'Migration Protocol Versions: none'];
  if (verbose) lines.push(`Enabled features: ${JSON.stringify(FEATURES)}`);
  return lines.map((line) => `${line}\n`).join('');
}
