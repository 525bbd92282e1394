/** Values in documents. */
import { Code, Domain, LibvirtError } from './errors.ts';

/** @param name what messages call it @throws LibvirtError */
export function wholeNumber(text: string, name: string): number {
  const value = /^\d{1,15}$/.test(text.trim()) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw xmlError(`<${name}> is '${text}', no whole number`);
  return value;
}

export function xmlError(message: string): LibvirtError {
  return new LibvirtError(Code.xmlError, Domain.domain, `XML error: ${message}`);
}
