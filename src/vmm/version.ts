/** What this program calls itself. */
import packageJson from '../../package.json' with { type: 'json' };

export const packageVersion: string = packageJson.version;

/** Release of the reference whose REST API this one follows: clients choose by it what they may ask for. */
export const API_VERSION = '54.0.0';

export const FEATURES: readonly string[] = ['kvm'];
