/** The supervisor's VMs as libvirt's domains. */
import { lstatSync } from 'node:fs';
import { MAX_SMALL_FILE } from '../../config/limits.ts';
import { PLAIN_ZONE_ID } from '../../config/memory.ts';
import type { VmConfigInput } from '../../config/vmConfig.ts';
import { PRIVATE_FILE } from '../../host/openFlags.ts';
import { readSmallFile } from '../../host/regularFile.ts';
import type { Definition } from '../../supervisor/definition.ts';
import type { EventHistory } from '../../supervisor/eventHistory.ts';
import type { SupervisedVm } from '../../supervisor/supervisedVm.ts';
import type { Supervisor } from '../../supervisor/supervisor.ts';
import { callVmApi } from '../../supervisor/vmApi.ts';
import { replaceFile } from '../vmhost/replaceFile.ts';
import { domainDocument } from './domainDocument.ts';
import { DOMAIN_DEFINITION, type DomainDocument, readDomainXml } from './domainXml.ts';
import { Code, Domain, invalidOperation, LibvirtError, noDomain } from './errors.ts';
import { checkReadable } from './impact.ts';
import { LiveConfigs } from './liveConfigs.ts';
import { type Info, liveMachine } from './liveMachine.ts';
import { deviceOf } from './memorySizes.ts';
import { Notices } from './notices.ts';
import type { Dom } from './types.ts';
import { type Element, element, formatXml, parseXml } from './xml.ts';

/** In the folder of a VM: what its document had that is no part of the machine. */
const KEPT_FILE = 'libvirt.xml';

export interface CreateOptions {
  /** The guest runs when it is resumed. */
  readonly paused: boolean;
  /** What is not understood is refused. */
  readonly validate: boolean;
}

/** How long a VM's process may take for what a client asks of it. */
const CALL_MS = 30_000;
/** How long a call waits for a guest to give up a device or vCPUs, as libvirt's own drivers do; later, events tell. */
export const GUEST_MS = 5_000;

export class Domains {
  readonly #supervisor: Supervisor;
  readonly #live: LiveConfigs;
  readonly notices = new Notices();
  /** Names by uuid, as they were when it was asked last. */
  #byUuid = new Map<string, string>();

  constructor(supervisor: Supervisor) {
    this.#supervisor = supervisor;
    this.#live = new LiveConfigs({
      events: supervisor.events,
      find: (name) => this.find(name),
      ask: async (vm) => {
        const info = await this.info(vm);
        return liveMachine(info, vm.startedWith ?? vm.config ?? info.config);
      },
      resized: (vm, actual) => this.notices.tell(vm, { kind: 'balloon', actual }),
    });
    void this.#live.refreshAll(this.all());
  }

  get events(): EventHistory {
    return this.#supervisor.events;
  }

  all(): SupervisedVm[] {
    return [...this.#supervisor.vms.values()];
  }

  find(name: string): SupervisedVm | undefined {
    return this.#supervisor.vms.get(name);
  }

  byName(name: string): SupervisedVm {
    return this.find(name) ?? fail(noDomain(`name '${name}'`));
  }

  byUuid(uuid: string): SupervisedVm {
    return this.#withUuid(uuid) ?? fail(noDomain(`uuid '${uuid}'`));
  }

  byId(id: number): SupervisedVm {
    return this.all().find((vm) => vm.runId === id) ?? fail(noDomain(`id ${id}`));
  }

  domOf(vm: SupervisedVm): Dom {
    return { name: vm.definition.name, uuid: uuidOf(vm), id: vm.runId ?? -1 };
  }

  isPersistent(vm: SupervisedVm): boolean {
    return !vm.definition.policy.transient;
  }

  /** A document with the uuid of a domain that is there defines that one anew. */
  define(xml: string, validate: boolean): SupervisedVm {
    const document = readDomainXml(xml, validate);
    const known = document.uuid === undefined ? undefined : this.#withUuid(document.uuid);
    return known ? this.#redefine(known, document) : this.#add(document, false);
  }

  /** A domain that is gone once it has stopped. */
  async create(xml: string, { paused, validate }: CreateOptions): Promise<SupervisedVm> {
    const document = readDomainXml(xml, validate);
    const vm = this.#add(document, true);
    try {
      await vm.start({ paused });
    } catch (error) {
      // It is removed by itself, in a moment: a client that sees the failure must not find it any more.
      if (this.find(document.name) === vm) await this.#supervisor.remove(document.name, true);
      throw error;
    }
    return vm;
  }

  /** One that runs becomes transient. */
  async undefine(vm: SupervisedVm): Promise<void> {
    const { name, policy } = vm.definition;
    if (policy.transient) throw invalidOperation('cannot undefine transient domain');
    if (!vm.alive) return this.#supervisor.remove(name, false);
    this.#change(vm, { policy: { ...policy, autostart: false, transient: true } });
  }

  /** Takes effect at the next start. */
  reconfigure(vm: SupervisedVm, config: VmConfigInput): void {
    this.#change(vm, { config });
  }

  /**
   * What the machine runs with, or what is defined where none runs.
   * @throws LibvirtError if that cannot be read, and the machine has not told yet
   */
  configOf(vm: SupervisedVm): VmConfigInput {
    const known = this.#live.of(vm);
    if (known !== undefined) return known;
    checkReadable(vm);
    return vm.definition.config;
  }

  /** What the process of a domain tells of it. @throws LibvirtError if it does not run */
  info(vm: SupervisedVm): Promise<Info> {
    return this.call(vm, 'GET', 'vm.info') as Promise<Info>;
  }

  /** Asks a running machine for its configuration, which may have changed. @throws LibvirtError if none runs */
  refresh(vm: SupervisedVm): Promise<VmConfigInput> {
    return this.#live.refresh(vm);
  }

  /** @throws LibvirtError if the definition cannot be read */
  autostarts(vm: SupervisedVm): boolean {
    if (vm.policy === undefined) checkReadable(vm);
    return vm.definition.policy.autostart;
  }

  setAutostart(vm: SupervisedVm, autostart: boolean): void {
    const { policy } = vm.definition;
    if (policy.transient) throw invalidOperation('cannot set autostart for transient domain');
    this.#change(vm, { policy: { ...policy, autostart } });
  }

  /** @throws LibvirtError if the definition cannot be read: the rest of it, which can be repaired, would be lost */
  #change(vm: SupervisedVm, { config, policy }: Partial<Pick<Definition, 'config' | 'policy'>>): void {
    checkReadable(vm);
    const { name, config: configBefore, policy: policyBefore } = vm.definition;
    this.#supervisor.redefine(name, { config: config ?? configBefore, policy: policy ?? policyBefore });
  }

  /** What VM's process answers. @throws LibvirtError if it does not run */
  call(vm: SupervisedVm, method: 'GET' | 'PUT', endpoint: string, body?: unknown): Promise<unknown> {
    if (!vm.alive) throw invalidOperation('domain is not running');
    return callVmApi(vm.folder, {
      method,
      endpoint,
      timeoutMs: CALL_MS,
      ...(body !== undefined && { body }),
    });
  }

  /** The machine as it runs, or as it is defined. @throws LibvirtError if what it needs of the definition is broken */
  async document(vm: SupervisedVm, inactive: boolean): Promise<string> {
    const { name, config, policy } = vm.definition;
    const id = vm.runId;
    if (inactive || id === undefined || vm.policy === undefined) checkReadable(vm);
    const actions = { restart: policy.restart.when, endOn: policy.end_on };
    const common = { name, uuid: uuidOf(vm), actions, kept: this.kept(vm) };
    if (inactive || id === undefined) return domainDocument({ ...common, config });
    const live = await this.#live.refresh(vm);
    return domainDocument({ ...common, id, config: live, ...(deviceOf(live) && (await this.#plugged(vm))) });
  }

  async #plugged(vm: SupervisedVm): Promise<{ readonly plugged: number }> {
    const counters = (await this.call(vm, 'GET', 'vm.counters')) as Record<string, Record<string, number>>;
    return { plugged: counters[PLAIN_ZONE_ID]?.plugged_bytes ?? 0 };
  }

  /** Elements that are kept of the document. @throws LibvirtError if they cannot be read */
  kept(vm: SupervisedVm): Element[] {
    try {
      return readKept(vm.folder);
    } catch (error) {
      // Clients go on without what is told so, where they list titles of all domains for one.
      const { name } = vm.definition;
      const text = `metadata not found: ${KEPT_FILE} of domain '${name}' is broken: ${(error as Error).message}`;
      throw new LibvirtError(Code.noMetadata, Domain.domain, text);
    }
  }

  setKept(vm: SupervisedVm, kept: readonly Element[]): void {
    writeKept(vm.folder, keptText(kept));
  }

  #withUuid(uuid: string): SupervisedVm | undefined {
    const known = this.find(this.#byUuid.get(uuid) ?? '');
    if (known && uuidOf(known) === uuid) return known;
    this.#byUuid = new Map(this.all().map((vm) => [uuidOf(vm), vm.definition.name]));
    return this.find(this.#byUuid.get(uuid) ?? '');
  }

  #add(document: DomainDocument, transient: boolean): SupervisedVm {
    const { name, uuid, config, kept, actions } = document;
    const other = this.find(name);
    if (other) {
      throw new LibvirtError(
        Code.operationFailed,
        Domain.domain,
        `operation failed: domain '${name}' already exists with uuid ${uuidOf(other)}`,
      );
    }
    const policy = {
      ...(uuid !== undefined && { uuid }),
      restart: { when: actions.restart },
      end_on: actions.endOn,
      transient,
    };
    this.#supervisor.define({ name, config, policy }, { [KEPT_FILE]: keptText(kept) });
    return this.byName(name);
  }

  #redefine(vm: SupervisedVm, { name, config, kept, actions }: DomainDocument): SupervisedVm {
    if (name !== vm.definition.name) {
      throw new LibvirtError(
        Code.operationFailed,
        Domain.domain,
        `operation failed: domain '${vm.definition.name}' is already defined with uuid ${uuidOf(vm)}`,
      );
    }
    // The rest of a policy, which can be repaired, would be lost.
    if (vm.problem?.policy) checkReadable(vm);
    const text = keptText(kept);
    const { policy } = vm.definition;
    const restart = { ...policy.restart, when: actions.restart };
    this.#supervisor.redefine(name, {
      config,
      policy: { ...policy, restart, end_on: actions.endOn, transient: false },
    });
    writeKept(vm.folder, text);
    return vm;
  }
}

function uuidOf(vm: SupervisedVm): string {
  // Every definition that was read has one.
  return vm.definition.policy.uuid as string;
}

function readKept(folder: string): Element[] {
  const path = `${folder}/${KEPT_FILE}`;
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return [];
  return [...parseXml(readSmallFile(path).toString(), DOMAIN_DEFINITION).children];
}

/** @throws LibvirtError if it could not be read again: the domain would have no document any more */
function keptText(kept: readonly Element[]): string {
  const text = formatXml(element('kept', {}, kept));
  parseXml(text, 'domain_metadata');
  if (Buffer.byteLength(text) > MAX_SMALL_FILE) {
    throw new LibvirtError(
      Code.xmlDetail,
      Domain.domain,
      `(domain_metadata): more than ${MAX_SMALL_FILE} bytes`,
    );
  }
  return text;
}

function writeKept(folder: string, text: string): void {
  replaceFile(`${folder}/${KEPT_FILE}`, text, PRIVATE_FILE);
}

function fail(error: Error): never {
  throw error;
}
