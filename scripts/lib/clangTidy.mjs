/**
 * clang-tidy over native/. Most of its time goes to the standard library's headers, which every file includes: several
 * files are therefore looked at together, as one translation unit, and apart only where that finds something.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { run } from './exec.mjs';
import { BUILD, ROOT } from './paths.mjs';
import { Failure } from './progress.mjs';
import { digestOf, filesBelow } from './stamp.mjs';

/** More would save little. */
const FILES_TOGETHER = 10;

const FOLDER = path.join(BUILD, 'clang-tidy');

/** A file that is included is a header to clang-tidy: .clang-tidy names only the true ones. */
const LOOKED_AT = '--header-filter=.*/native/.*\\.(h|cc)$';

/**
 * Runs clang-tidy, on each core; what passed is not looked at again until it, a header or the rules change.
 *
 * @param {(detail: string) => void} detail
 * @param {boolean} analyze also by symbolic execution, which takes four times as long as the rest
 */
export async function clangTidy(detail, analyze) {
  const checks = analyze ? '' : '-clang-analyzer-*';
  const sources = filesBelow(['native']);
  const headers = sources.filter((file) => file.endsWith('.h'));
  const common = digestOf([...headers, path.join(ROOT, '.clang-tidy')], checks);
  fs.mkdirSync(FOLDER, { recursive: true });
  const waiting = groups(sources.filter((file) => file.endsWith('.cc')))
    .map((files) => ({ files, stamp: path.join(FOLDER, digestOf(files, common)) }))
    .filter(({ stamp }) => !fs.existsSync(stamp));
  const all = waiting.length;
  /** @type {string[]} */
  const complaints = [];
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const { files, stamp } = next;
      detail(`${all - waiting.length} of ${all}: ${path.relative(ROOT, String(files[0]))} and others`);
      const found = await lookAt(files, checks);
      if (found.length) complaints.push(...found);
      else fs.writeFileSync(stamp, '');
    }
  };
  await Promise.all(Array.from({ length: os.cpus().length }, worker));
  if (complaints.length) throw new Failure(complaints.join('\n'));
}

/**
 * Files that are compiled alike and give different names to what they keep to themselves.
 *
 * @param {readonly string[]} files
 * @returns {string[][]}
 */
function groups(files) {
  /** @type {{flags: string, files: string[], names: Set<string>}[]} */
  const all = [];
  for (const file of files) {
    const flags = flagsOf(file).join(' ');
    const names = namesOf(file);
    const fits = all.find(
      (group) =>
        group.files.length < FILES_TOGETHER &&
        group.flags === flags &&
        ![...names].some((name) => group.names.has(name)),
    );
    const group = fits ?? { flags, files: [], names: new Set() };
    if (!fits) all.push(group);
    group.files.push(file);
    for (const name of names) group.names.add(name);
  }
  return all.map((group) => group.files);
}

/**
 * What a file declares, as far as its lines tell: a name that begins no line's declaration is in a class or function.
 *
 * @param {string} file
 */
function namesOf(file) {
  /** @type {Set<string>} */
  const names = new Set();
  for (const line of fs.readFileSync(file, 'utf8').split('\n')) {
    const name = /^\w[^({=;]*?([\w:~]+)\s*(?:\[\w*\]\s*)?(?:final\s*)?(?:[({=;]|:\s|$)/.exec(line)?.[1];
    if (name && !/^(namespace|using|extern)/.test(line)) names.add(name);
  }
  return names;
}

/**
 * Looks at files as one, and in halves where that finds something; it may also be that two of them use one name.
 *
 * @param {readonly string[]} files
 * @param {string} checks
 * @returns {Promise<string[]>} what was found
 */
async function lookAt(files, checks) {
  if (files.length === 1) return lookAtOne(String(files[0]), checks);
  if (await passTogether(files, checks)) return [];
  const half = files.length >> 1;
  return [...(await lookAt(files.slice(0, half), checks)), ...(await lookAt(files.slice(half), checks))];
}

/**
 * @param {readonly string[]} files
 * @param {string} checks
 */
async function passTogether(files, checks) {
  const unit = path.join(FOLDER, `${digestOf(files, checks)}.cc`);
  const includes = files.map((file) => `#include "${file}"  // NOLINT(bugprone-suspicious-include)\n`);
  fs.writeFileSync(unit, includes.join(''));
  // Rules and flags are looked up by a file's place; this one has none of its own.
  const rules = ['--config-file', path.join(ROOT, '.clang-tidy'), LOOKED_AT];
  const args = ['--quiet', ...rules, `--checks=${checks}`, unit, '--', ...flagsOf(String(files[0]))];
  const { code } = await run('clang-tidy', args, { okToFail: true });
  fs.rmSync(unit);
  return code === 0;
}

/**
 * @param {string} file
 * @param {string} checks
 */
async function lookAtOne(file, checks) {
  const args = ['--quiet', '-p', path.join(BUILD, 'release'), `--checks=${checks}`, file];
  const { code, stdout } = await run('clang-tidy', args, { okToFail: true });
  return code === 0 ? [] : [stdout];
}

/**
 * What a file is compiled with, apart from its own name and that of what becomes of it.
 *
 * @param {string} file
 * @returns {string[]}
 */
function flagsOf(file) {
  const command = commands().get(file);
  if (!command) throw new Failure(`${file} is compiled by nothing`);
  return command
    .replace(/ -o \S+ -c \S+/, '')
    .split(/\s+/)
    .slice(1);
}

/** @type {Map<string, string> | undefined} */
let known;

/** The command that compiles each file. */
function commands() {
  /** @type {() => {file: string, command: string}[]} */
  const read = () => JSON.parse(fs.readFileSync(path.join(BUILD, 'release/compile_commands.json'), 'utf8'));
  known ??= new Map(read().map(({ file, command }) => [file, command]));
  return known;
}
