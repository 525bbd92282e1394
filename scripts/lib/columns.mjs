/** Comments and documents have at most 120 columns: formatters leave them alone. */
import fs from 'node:fs';
import path from 'node:path';
import { ROOT } from './paths.mjs';
import { Failure } from './progress.mjs';
import { filesBelow } from './stamp.mjs';

const COLUMNS = 120;
const FOLDERS = ['src', 'native', 'test', 'bench', 'scripts', 'launcher', 'examples'];
const SOURCES = /\.(?:ts|mjs|cc|h|c|S)$/;
/** Those of packages that are installed beside scripts, and what is written by `npm run api`. */
const OTHERS = /\/node_modules\/|\.api\.md$/;
const COMMENT = /^\s*(?:\/\/|\/\*|\*)/;
/** Tables, headings and links cannot be broken into lines. */
const UNBROKEN = /^\s*(?:\||#|\[[^\]]*\]:)/;

/** @param {string} text @returns {string[]} without those of code */
function proseLines(text) {
  let inCode = false;
  return text.split('\n').map((line) => {
    if (line.trimStart().startsWith('```')) inCode = !inCode;
    return inCode || UNBROKEN.test(line) ? '' : line;
  });
}

/** @param {string} file @returns {string[]} */
function textOf(file) {
  const text = fs.readFileSync(file, 'utf8');
  if (file.endsWith('.md')) return proseLines(text);
  return text.split('\n').map((line) => (COMMENT.test(line) ? line : ''));
}

/** Throws a Failure that names every line that is too long. */
export function checkColumns() {
  const documents = fs.readdirSync(ROOT).filter((name) => name.endsWith('.md'));
  const files = [
    ...filesBelow(FOLDERS).filter((file) => SOURCES.test(file)),
    ...filesBelow([...documents, 'docs']),
  ];
  const complaints = files
    .filter((file) => !OTHERS.test(file) && (SOURCES.test(file) || file.endsWith('.md')))
    .flatMap((file) =>
      textOf(file).flatMap((line, index) =>
        line.length > COLUMNS
          ? [`${path.relative(ROOT, file)}:${index + 1} has ${line.length} columns, more than ${COLUMNS}`]
          : [],
      ),
    );
  if (complaints.length) throw new Failure(complaints.join('\n'));
}
