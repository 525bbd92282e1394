/** A TPM that swtpm serves. */
export const tpmConfig = {
  type: 'object',
  name: 'TpmConfig',
  mainKey: 'socket',
  fields: { socket: { type: 'string', required: true, help: 'UNIX socket of swtpm' } },
} as const;
