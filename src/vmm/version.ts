/** Name and version of this program. */
import packageJson from '../../package.json' with { type: 'json' };

export const packageVersion: string = packageJson.version;

/** Put in by the build where it knows it. */
declare const TSVMM_COMMIT: string | undefined;

/** The commit that the sources are of, `-dirty` behind it if they differ from it; undefined if unknown. */
export const commit: string | undefined = typeof TSVMM_COMMIT === 'undefined' ? undefined : TSVMM_COMMIT;

/** Release of the reference whose REST API this one follows: clients choose by it what they may ask for. */
export const API_VERSION = '54.0.0';

export const FEATURES: readonly string[] = ['kvm'];
