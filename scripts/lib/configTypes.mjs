/**
 * The declarations of configuration types as editors show them: interfaces with a description at each field, written
 * from the schema (`src/config/`). The sources themselves infer the same types; `test/package/api.test.ts` compares
 * them.
 */
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { run } from './exec.mjs';
import { BUILD, nodeBin, ROOT } from './paths.mjs';

/** @typedef {import('../../src/config/schema.ts').Field} Field */
/** @typedef {import('../../src/config/schema.ts').Shape} Shape */
/** @typedef {import('../../src/config/schema.ts').ObjectShape} ObjectShape */

/** Module with schemas -> those of its types that are declared by interfaces instead. */
const REPLACED = {
  'config/vmConfig': ['VmConfig', 'VmConfigInput'],
  'config/requests': ['VmResize'],
};

const FILE = 'config/configTypes';

/**
 * Writes the interfaces into a folder of declarations, and has the modules there use them.
 *
 * @param {string} types
 */
export async function declareConfigTypes(types) {
  const { vmConfig, vmResize } = await loadSchemas();
  const writer = new Writer();
  writer.add({ ...vmConfig, help: 'The configuration of a VM' });
  writer.add({ ...vmResize, help: 'Sizes to change; what is absent stays as it is' });
  fs.writeFileSync(path.join(types, `${FILE}.d.ts`), writer.text());
  for (const [module, names] of Object.entries(REPLACED)) {
    const file = path.join(types, `${module}.d.ts`);
    let text = fs.readFileSync(file, 'utf8');
    for (const name of names) {
      text = text.replace(new RegExp(`(^/\\*\\*[^\n]*\\*/\n)?^export type ${name} = .*;\n`, 'm'), '');
    }
    fs.writeFileSync(file, `${text}export type { ${names.join(', ')} } from './configTypes.js';\n`);
  }
  fs.appendFileSync(path.join(types, 'index.d.ts'), `export * from './${FILE}.js';\n`);
}

/** @returns {Promise<{vmConfig: ObjectShape, vmResize: ObjectShape}>} */
async function loadSchemas() {
  const source = path.join(BUILD, 'config-types/schemas.ts');
  const bundle = path.join(BUILD, 'config-types/schemas.mjs');
  fs.mkdirSync(path.dirname(source), { recursive: true });
  const from = (/** @type {string} */ name) => JSON.stringify(path.join(ROOT, 'src/config', name));
  fs.writeFileSync(
    source,
    `export { vmConfig } from ${from('vmConfig.ts')};\nexport { vmResize } from ${from('requests.ts')};\n`,
  );
  await run(nodeBin('esbuild'), [
    ...[source, '--bundle', '--format=esm', '--platform=node', '--log-level=warning', `--outfile=${bundle}`],
  ]);
  return import(`${pathToFileURL(bundle)}?${fs.statSync(bundle).mtimeMs}`);
}

/** Collects interfaces: two for each object of the schema, what is complete and what may be given. */
class Writer {
  /** @type {Map<string, string>} */
  #interfaces = new Map();

  text() {
    return [...this.#interfaces.values()].join('\n');
  }

  /** @param {ObjectShape & {help?: string}} shape */
  add(shape) {
    const { name, help, fields } = shape;
    const complete = Object.entries(fields).map(([key, field]) => this.#completeField(key, field));
    const input = Object.entries(fields).map(([key, field]) => this.#inputField(key, field));
    this.#declare(name, `${help ?? name}, complete`, complete);
    this.#declare(`${name}Input`, `${help ?? name}, as it is given`, input);
  }

  /**
   * @param {string} name
   * @param {string} help
   * @param {readonly string[]} fields
   */
  #declare(name, help, fields) {
    const body = `export interface ${name} {\n${fields.join('')}}\n`;
    const before = this.#interfaces.get(name);
    // One description of several uses: the first that came names it.
    if (before !== undefined) {
      if (!before.endsWith(body)) throw new Error(`two objects of the schema are called ${name}`);
      return;
    }
    this.#interfaces.set(name, `/** ${help}. */\n${body}`);
  }

  /**
   * @param {string} key
   * @param {Field} field
   */
  #completeField(key, field) {
    const present = field.required || field.default !== undefined || field.nullable;
    const type = this.#type(field, '') + (field.nullable ? ' | null' : '');
    return `${comment(field)}  ${key}${present ? '' : '?'}: ${type};\n`;
  }

  /**
   * @param {string} key
   * @param {Field} field
   */
  #inputField(key, field) {
    const type = this.#type(field, 'Input');
    return `${comment(field)}  readonly ${key}${field.required ? `: ${type}` : `?: ${type} | null`};\n`;
  }

  /**
   * @param {Shape} shape
   * @param {'' | 'Input'} suffix
   * @returns {string}
   */
  #type(shape, suffix) {
    switch (shape.type) {
      case 'integer':
        return shape.u64 ? 'number | bigint' : 'number';
      case 'enum': {
        const names = Object.keys(shape.values);
        const all = suffix === '' ? names : [...names, ...Object.values(shape.values)];
        return all.map((name) => `'${name}'`).join(' | ');
      }
      case 'array': {
        const items = this.#type(shape.items, suffix);
        const list = /[ |]/.test(items) ? `(${items})[]` : `${items}[]`;
        return suffix === '' ? list : `readonly ${list}`;
      }
      case 'object':
        this.add(shape);
        return shape.name + suffix;
      default:
        return shape.type;
    }
  }
}

/** @param {Field} field */
function comment(field) {
  const { help, unsupported, type } = field;
  const sentences = [help];
  if (field.default !== undefined && type !== 'object') {
    sentences.push(`${JSON.stringify(field.default)} unless given`);
  }
  if (unsupported) sentences.push('No machine has it yet: a VM that asks for it does not boot');
  return `  /** ${sentences.join('. ')}. */\n`;
}
