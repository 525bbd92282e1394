/** Bun, which has it built in, takes longer to load its Buffer than to decode all that a start needs. */
const { fromBase64 } = Uint8Array as { readonly fromBase64?: (text: string) => Uint8Array };

export function bytesOfBase64(text: string): Uint8Array {
  return fromBase64 ? fromBase64(text) : viaBuffer(text);
}

/** Apart: Bun loads its Buffer when a function that names it is called, whether or not it comes to that place. */
function viaBuffer(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'base64'));
}
