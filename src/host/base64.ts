/** Bun, which has it built in, takes longer to load its Buffer than to decode all that a start needs. */
const { fromBase64 } = Uint8Array as { readonly fromBase64?: (text: string) => Uint8Array };

export function bytesOfBase64(text: string): Uint8Array {
  return fromBase64 ? fromBase64(text) : new Uint8Array(Buffer.from(text, 'base64'));
}
