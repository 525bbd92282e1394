/** JSON of values that may hold BigInts: integers go up to 2^64 - 1, and JSON.stringify refuses those above 2^53. */

/**
 * `undefined` is left out of objects, as in JSON.stringify.
 * @param indent of each level; all is one line unless given
 */
export function writeJson(value: unknown, indent = ''): string {
  return write(value, indent, indent === '' ? '' : '\n');
}

/** @param line that members begin on, its own level's indent included */
function write(value: unknown, indent: string, line: string): string {
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  if (value instanceof Number) return JSON.stringify(value);
  const inner = `${line}${indent}`;
  if (Array.isArray(value)) {
    return joined(
      '[]',
      value.map((item) => write(item, indent, inner)),
      line,
      inner,
    );
  }
  const members: string[] = [];
  for (const [key, member] of Object.entries(value)) {
    if (member === undefined) continue;
    members.push(`${JSON.stringify(key)}:${indent && ' '}${write(member, indent, inner)}`);
  }
  return joined('{}', members, line, inner);
}

function joined(brackets: string, members: readonly string[], line: string, inner: string): string {
  const [open, close] = brackets;
  if (members.length === 0) return brackets;
  return `${open}${inner}${members.join(`,${inner}`)}${line}${close}`;
}
