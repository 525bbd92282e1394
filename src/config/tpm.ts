/** Schema of a TPM that swtpm serves. */
export const tpmConfig = {
  type: 'object',
  name: 'TpmConfig',
  unsupported: true,
  help: 'TPM, served by swtpm',
  mainKey: 'socket',
  fields: { socket: { type: 'string', required: true, help: 'UNIX socket of swtpm' } },
} as const;
