/** Schema of the device by which a guest controls the host's side of its memory. */
export const pvmemcontrolConfig = {
  type: 'object',
  name: 'PvmemcontrolConfig',
  unsupported: true,
  help: 'Let the guest control its memory',
  fields: {},
} as const;
