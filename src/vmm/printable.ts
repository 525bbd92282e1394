/** Makes text of a guest, a file or another program safe for terminals and logs. */

/** Controls (with line ends), what turns the direction of text, line and paragraph separators, halves of characters. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

const SHORT: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** `text` on one line, with escapes in place of what could move a cursor, forge a line or hide text. Idempotent. */
export function printable(text: string): string {
  return text.replace(
    UNPRINTABLE,
    (character) => SHORT[character] ?? escapeOf(character.codePointAt(0) as number),
  );
}

const JSON_SPACE = '\n\r\t';

/** JSON that means the same, with escapes for such characters in its strings. Idempotent. */
export function printableJson(json: string): string {
  return json.replace(UNPRINTABLE, (character) =>
    JSON_SPACE.includes(character) ? character : character.split('').map(jsonEscapeOf).join(''),
  );
}

function jsonEscapeOf(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

function escapeOf(code: number): string {
  const hex = code.toString(16);
  return code < 0x100 ? `\\x${hex.padStart(2, '0')}` : `\\u{${hex}}`;
}
