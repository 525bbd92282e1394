/** Finds the known name that is most like an unknown one. Loaded only where something is refused. */

/** The known name that fewest changes of single characters lead to, if those are few for names of that length. */
export function nearest(given: string, known: readonly string[]): string | undefined {
  const plain = simplify(given);
  let best: string | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const name of known) {
    const distance = changes(plain, simplify(name));
    if (distance < least) [best, least] = [name, distance];
  }
  return least <= Math.max(1, Math.floor(plain.length / 3)) ? best : undefined;
}

/** `readOnly`, `read-only` and `read_only` are treated as the same. */
function simplify(name: string): string {
  return name.slice(0, MAX_LENGTH).toLowerCase().replace(/[-_]/g, '');
}

const MAX_LENGTH = 64;

/** Insertions, deletions, replacements and swaps of neighbours (optimal string alignment distance). */
function changes(from: string, to: string): number {
  let before: number[] = [];
  let last = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let i = 1; i <= from.length; i++) {
    const row = [i];
    for (let j = 1; j <= to.length; j++) {
      const same = from[i - 1] === to[j - 1];
      let cost = Math.min(at(last, j) + 1, at(row, j - 1) + 1, at(last, j - 1) + (same ? 0 : 1));
      const swapped = i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1];
      if (swapped) cost = Math.min(cost, at(before, j - 2) + 1);
      row.push(cost);
    }
    before = last;
    last = row;
  }
  return at(last, to.length);
}

function at(row: readonly number[], index: number): number {
  return row[index] as number;
}
