/** The fuzz targets of test/fuzz/: built with clang's libFuzzer and the sanitizers, and run for a while. */
import fs from 'node:fs';
import path from 'node:path';
import { buildSanitized, sanitizedProgram } from './buildNative.mjs';
import { run } from './exec.mjs';
import { fuzzImages } from './fuzzImages.mjs';
import { BUILD, ROOT } from './paths.mjs';
import { Failure, step } from './progress.mjs';

/** One input takes milliseconds: one that takes this long, even on a busy machine, is a loop without a bound. */
const INPUT_SECONDS = 60;

/** @returns {string[]} */
export function fuzzTargets() {
  const suffix = '_fuzz.cc';
  const files = fs.readdirSync(path.join(ROOT, 'test/fuzz')).filter((file) => file.endsWith(suffix));
  return files.map((file) => file.slice(0, -'.cc'.length)).sort();
}

/** Also makes what the targets start from. */
export async function buildFuzzTargets() {
  await fuzzImages();
  await buildSanitized('tsvmm_fuzz');
}

/**
 * Runs one target; what it finds of interest stays below build/ and is where the next run starts. Throws a Failure with
 * the sanitizer's report and the name of the file that has the input.
 *
 * @param {string} target
 * @param {number} seconds
 */
export async function fuzz(target, seconds) {
  const corpus = path.join(BUILD, 'fuzz-corpus', target);
  const findings = path.join(BUILD, 'fuzz-findings', target);
  fs.mkdirSync(corpus, { recursive: true });
  fs.mkdirSync(findings, { recursive: true });
  const env = { UBSAN_OPTIONS: 'print_stacktrace=1', TSVMM_FUZZ_IMAGES: await fuzzImages() };
  await step(`fuzzing with ${target}`, (detail) =>
    run(
      sanitizedProgram(target),
      [
        `-max_total_time=${seconds}`,
        `-timeout=${INPUT_SECONDS}`,
        `-artifact_prefix=${findings}/`,
        '-len_control=0',
        '-max_len=4096',
        corpus,
      ],
      { onLine: detail, env },
    ),
  ).catch((error) => {
    throw new Failure(`${error.message}\nThe input is in ${findings}`);
  });
}
