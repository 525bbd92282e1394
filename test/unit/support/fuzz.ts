/** How long random inputs are tried: hundreds in every run, more by hand (`TSVMM_FUZZ_CASES=100000`). */
import fc from 'fast-check';

const CASES = Number(process.env.TSVMM_FUZZ_CASES ?? 300);

export const fuzzing = { numRuns: CASES } as const;
export const FUZZ_TIMEOUT_MS = 60_000 + 20 * CASES;

/** What decoders of lengths and counts trip over. */
const word = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 0, max: 9 }) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(0xffff_ffff, 0x8000_0000, 0x7fff_ffff, 0x0040_0001, 0x4001, 0x100),
  },
  { weight: 1, arbitrary: fc.nat(0xffff_ffff) },
  { weight: 2, arbitrary: fc.constantFrom(0x766d_3100, 0x6162_6364, 0xc3bc_0000, 0xff00_0000) },
);

/** Words as XDR has them, cut off anywhere. */
export const xdrBytes: fc.Arbitrary<Uint8Array> = fc
  .tuple(fc.array(word, { maxLength: 60 }), fc.nat(3))
  .map(([words, cut]) => {
    const bytes = Buffer.alloc(4 * words.length);
    for (const [index, each] of words.entries()) bytes.writeUInt32BE(each, 4 * index);
    return Uint8Array.from(bytes.subarray(0, Math.max(0, bytes.length - cut)));
  });
