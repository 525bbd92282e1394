/** A domain's description and state. */

import { stateOf } from '../domainState.ts';
import { Code, Domain, invalidArgument, LibvirtError, unsupported } from '../errors.ts';
import { currentMemoryKib, maxMemoryKib, vcpusOf } from '../figures.ts';
import { cpuTime } from '../processFigures.ts';
import { readOnlyRefused, type Session } from '../session.ts';
import { Metadata, Xml } from '../signatures/constants.ts';
import { Remote } from '../signatures/index.ts';
import type { Dom } from '../types.ts';
import { element, formatXml, parseXml } from '../xml.ts';
import { vmOf } from './lifecycle.ts';
import { type Procedure, procedure } from './procedure.ts';

/** Of a namespace: a name without a colon (Namespaces in XML 1.0 §3). */
const PREFIX = /^[\p{L}_][\p{L}\p{N}_.-]*$/u;

export const stateProcedures: readonly Procedure[] = [
  procedure(Remote.domainGetXmlDesc, async ({ session, args }) => {
    if (args.flags & Xml.secure && session.readOnly) throw readOnlyRefused('virDomainGetXMLDesc');
    const vm = vmOf(session, args.dom);
    return { xml: await session.domains.document(vm, (args.flags & Xml.inactive) !== 0) };
  }),
  procedure(Remote.domainGetOsType, ({ session, args }) => {
    vmOf(session, args.dom);
    return { type: 'hvm' };
  }),
  procedure(Remote.domainGetInfo, ({ session, args }) => {
    const vm = vmOf(session, args.dom);
    const config = session.domains.configOf(vm);
    return {
      state: stateOf(vm).state,
      maxMem: maxMemoryKib(config),
      memory: currentMemoryKib(config),
      nrVirtCpu: vcpusOf(config),
      cpuTime: cpuTime(vm),
    };
  }),
  procedure(Remote.domainGetState, ({ session, args }) => stateOf(vmOf(session, args.dom))),
  procedure(Remote.domainIsActive, ({ session, args }) => ({
    active: vmOf(session, args.dom).alive ? 1 : 0,
  })),
  procedure(Remote.domainIsPersistent, ({ session, args }) => ({
    persistent: session.domains.isPersistent(vmOf(session, args.dom)) ? 1 : 0,
  })),
  procedure(Remote.domainIsUpdated, ({ session, args }) => {
    vmOf(session, args.dom);
    return { updated: 0 };
  }),
  procedure(Remote.domainGetControlInfo, ({ session, args }) => {
    const unresponsive = vmOf(session, args.dom).state === 'unresponsive';
    return { state: unresponsive ? 3 : 0, details: 0, stateTime: 0n };
  }),
  procedure(Remote.domainGetMessages, ({ session, args }) => {
    vmOf(session, args.dom);
    return { msgs: [] };
  }),
  procedure(Remote.domainHasManagedSaveImage, ({ session, args }) => {
    vmOf(session, args.dom);
    return { result: 0 };
  }),
  procedure(Remote.domainSnapshotNum, ({ session, args }) => {
    vmOf(session, args.dom);
    return { num: 0 };
  }),
  procedure(Remote.domainGetMetadata, ({ session, args }) => ({
    metadata: getMetadata(session, args.dom, args.type, args.uri),
  })),
  procedure(Remote.domainSetMetadata, ({ session, args }) => setMetadata(session, args), { writes: true }),
];

function getMetadata(session: Session, given: Dom, type: number, uri: string | undefined): string {
  const kept = session.domains.kept(vmOf(session, given));
  const name = type === Metadata.title ? 'title' : type === Metadata.description ? 'description' : undefined;
  const found =
    name === undefined
      ? kept.find((each) => each.name === 'metadata')?.children.find((each) => namespaceOf(each) === uri)
      : kept.find((each) => each.name === name);
  if (found === undefined) {
    throw new LibvirtError(
      Code.noMetadata,
      Domain.domain,
      'metadata not found: Requested metadata element is not present',
    );
  }
  return name === undefined ? formatXml(found) : found.text;
}

/** Of an element that declares its own. */
function namespaceOf({ name, attributes }: { name: string; attributes: Readonly<Record<string, string>> }) {
  const [prefix, local] = name.split(':');
  return local === undefined ? attributes.xmlns : attributes[`xmlns:${prefix}`];
}

interface SetMetadata {
  readonly dom: Dom;
  readonly type: number;
  readonly metadata?: string | undefined;
  readonly key?: string | undefined;
  readonly uri?: string | undefined;
}

function setMetadata(session: Session, { dom: given, type, metadata, key, uri }: SetMetadata): void {
  const vm = vmOf(session, given);
  const kept = session.domains.kept(vm);
  const without = (name: string) => kept.filter((each) => each.name !== name);
  if (type === Metadata.title || type === Metadata.description) {
    const name = type === Metadata.title ? 'title' : 'description';
    if (type === Metadata.title && metadata?.includes('\n')) throw unsupported('a title of several lines');
    session.domains.setKept(vm, [...without(name), ...(metadata ? [element(name, {}, metadata)] : [])]);
    session.domains.notices.tell(vm, { kind: 'metadata', type, uri: undefined });
    return;
  }
  const before = kept.find((each) => each.name === 'metadata')?.children ?? [];
  const others = before.filter((each) => namespaceOf(each) !== uri);
  const added = metadata ? [withNamespace(metadata, key, uri)] : [];
  session.domains.setKept(vm, [...without('metadata'), element('metadata', {}, [...others, ...added])]);
  session.domains.notices.tell(vm, { kind: 'metadata', type, uri });
}

function withNamespace(xml: string, key: string | undefined, uri: string | undefined) {
  const root = parseXml(xml, 'domain_metadata');
  if (key === undefined || uri === undefined) return root;
  if (!PREFIX.test(key)) throw invalidArgument(`'${key}' is no prefix of a namespace`);
  const local = root.name.split(':').at(-1);
  return { ...root, name: `${key}:${local}`, attributes: { ...root.attributes, [`xmlns:${key}`]: uri } };
}
