/** Schema of the files that the process may access (Landlock). */
import { invalid } from './rules.ts';
import type { Infer } from './schema.ts';

export const landlockConfig = {
  type: 'object',
  name: 'LandlockConfig',
  mainKey: 'path',
  fields: {
    path: { type: 'string', required: true, help: 'File or folder' },
    access: { type: 'string', required: true, help: 'r to read, w to write, rw for both' },
  },
} as const;

export type LandlockConfig = Infer<typeof landlockConfig>;

/** @throws ConfigError */
export function validateLandlockRule({ path, access }: LandlockConfig): void {
  if (!/^[rw]+$/.test(access)) {
    throw invalid(`The landlock rule for ${path} has access "${access}": give r, w or rw`);
  }
}
