/**
 * XML documents as trees: read strictly, without DOCTYPE and entities of their own, and written so that they are
 * stable.
 */
import { SaxesParser } from 'saxes';
import { Code, Domain, LibvirtError } from './errors.ts';

export interface Element {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: readonly Element[];
  /** All text directly inside, trimmed. */
  readonly text: string;
  /** In the document, from 1; 0 for what was made here. */
  readonly line: number;
}

const MAX_DEPTH = 64;
/** Elements and attributes together. */
const MAX_PARTS = 20_000;

interface Building {
  name: string;
  attributes: Record<string, string>;
  children: Element[];
  text: string;
  line: number;
}

/** @param what messages call the document, such as `domain_definition` @throws LibvirtError */
export function parseXml(text: string, what: string): Element {
  const parser = new SaxesParser({ xmlns: false, position: true });
  const open: Building[] = [];
  let root: Building | undefined;
  let count = 0;
  const fail = (message: string): never => {
    throw new LibvirtError(Code.xmlDetail, Domain.domain, `(${what}):${parser.line}: ${message}`);
  };
  parser.on('error', (error) => fail(error.message.replace(/^\d+:\d+: /, '')));
  parser.on('doctype', () => fail('a DOCTYPE is not accepted'));
  parser.on('attribute', () => {
    if (++count > MAX_PARTS) fail('too many attributes');
  });
  parser.on('opentag', ({ name, attributes }) => {
    if (open.length >= MAX_DEPTH || ++count > MAX_PARTS) fail('too many elements');
    open.push({
      name,
      attributes: { ...attributes } as Record<string, string>,
      children: [],
      text: '',
      line: parser.line,
    });
  });
  const addText = (more: string) => {
    const last = open.at(-1);
    if (last) last.text += more;
  };
  parser.on('text', addText);
  parser.on('cdata', addText);
  parser.on('closetag', () => {
    const closed = open.pop() as Building;
    closed.text = closed.text.trim();
    const parent = open.at(-1);
    if (parent) parent.children.push(closed);
    else root = closed;
  });
  parser.write(text).close();
  return root ?? fail('the document is empty');
}

export function child(of: Element | undefined, name: string): Element | undefined {
  return of?.children.find((each) => each.name === name);
}

/** The text of the element that a path of names leads to. */
export function textAt(of: Element | undefined, ...path: readonly string[]): string | undefined {
  let at = of;
  for (const name of path) at = child(at, name);
  return at?.text;
}

export type Attributes = Readonly<Record<string, string | number | undefined>>;

/** An element that was made here; what is undefined is left out. */
export function element(
  name: string,
  attributes: Attributes = {},
  content: string | readonly (Element | undefined)[] = [],
): Element {
  const given = Object.entries(attributes).filter(([, value]) => value !== undefined);
  return {
    name,
    attributes: Object.fromEntries(given.map(([key, value]) => [key, String(value)])),
    children: typeof content === 'string' ? [] : content.filter((each) => each !== undefined),
    text: typeof content === 'string' ? content : '',
    line: 0,
  };
}

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  "'": '&apos;',
  '\n': '&#10;',
  '\t': '&#9;',
  '\r': '&#13;',
};

/** What XML cannot have, or would not keep in an attribute, is escaped or replaced (XML 1.0 §2.2, §3.3.3). */
function escapeXml(text: string): string {
  return text.replace(/[&<>'\p{Cc}\p{Cs}\ufffe\uffff]/gu, (character) => ESCAPES[character] ?? '\ufffd');
}

export function formatXml({ name, attributes, children, text }: Element, indent = ''): string {
  const words = Object.entries(attributes).map(([key, value]) => ` ${key}='${escapeXml(value)}'`);
  const start = `${indent}<${name}${words.join('')}`;
  if (children.length === 0) return text === '' ? `${start}/>\n` : `${start}>${escapeXml(text)}</${name}>\n`;
  const inside = children.map((each) => formatXml(each, `${indent}  `)).join('');
  return `${start}>${escapeXml(text)}\n${inside}${indent}</${name}>\n`;
}
