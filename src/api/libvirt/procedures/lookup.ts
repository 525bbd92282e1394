/** Lists of domains, and lookups. */

import type { SupervisedVm } from '../../../supervisor/supervisedVm.ts';
import { State, stateOf } from '../domainState.ts';
import type { Domains } from '../domains.ts';
import { ListFilter } from '../signatures/constants.ts';
import { Remote } from '../signatures/index.ts';
import { type Procedure, procedure } from './procedure.ts';

/** virConnectListAllDomainsFlags: a domain has to match one of each pair or group of which any is asked for. */
const FILTERS: readonly (readonly {
  readonly bit: number;
  matches(vm: SupervisedVm, domains: Domains): boolean;
}[])[] = [
  [
    { bit: ListFilter.active, matches: (vm) => vm.alive },
    { bit: ListFilter.inactive, matches: (vm) => !vm.alive },
  ],
  [
    { bit: ListFilter.persistent, matches: (vm, domains) => domains.isPersistent(vm) },
    { bit: ListFilter.transient, matches: (vm, domains) => !domains.isPersistent(vm) },
  ],
  [
    { bit: ListFilter.running, matches: (vm) => stateOf(vm).state === State.running },
    { bit: ListFilter.paused, matches: (vm) => stateOf(vm).state === State.paused },
    { bit: ListFilter.shutOff, matches: (vm) => stateOf(vm).state === State.shutoff },
    { bit: ListFilter.otherState, matches: (vm) => stateOf(vm).state === State.shutdown },
  ],
  // No domain has a managed save image, a snapshot or a checkpoint.
  [
    { bit: ListFilter.managedSave, matches: () => false },
    { bit: ListFilter.noManagedSave, matches: () => true },
  ],
  [
    { bit: ListFilter.autostart, matches: (vm) => vm.definition.policy.autostart },
    { bit: ListFilter.noAutostart, matches: (vm) => !vm.definition.policy.autostart },
  ],
  [
    { bit: ListFilter.hasSnapshot, matches: () => false },
    { bit: ListFilter.noSnapshot, matches: () => true },
  ],
  [
    { bit: ListFilter.hasCheckpoint, matches: () => false },
    { bit: ListFilter.noCheckpoint, matches: () => true },
  ],
];

export function listDomains(domains: Domains, flags: number): SupervisedVm[] {
  const asked = FILTERS.map((group) => group.filter(({ bit }) => (flags & bit) !== 0)).filter(
    (group) => group.length > 0,
  );
  return domains
    .all()
    .filter((vm) => asked.every((group) => group.some((filter) => filter.matches(vm, domains))));
}

export const lookupProcedures: readonly Procedure[] = [
  procedure(Remote.connectListAllDomains, ({ session: { domains }, args: { need_results, flags } }) => {
    const found = listDomains(domains, flags);
    return { domains: need_results ? found.map((vm) => domains.domOf(vm)) : [], ret: found.length };
  }),
  procedure(Remote.connectNumOfDomains, ({ session }) => ({
    num: listDomains(session.domains, ListFilter.active).length,
  })),
  procedure(Remote.connectListDomains, ({ session: { domains }, args: { maxids } }) => ({
    ids: listDomains(domains, ListFilter.active)
      .slice(0, Math.max(maxids, 0))
      .map((vm) => vm.runId as number),
  })),
  procedure(Remote.connectNumOfDefinedDomains, ({ session }) => ({
    num: listDomains(session.domains, ListFilter.inactive).length,
  })),
  procedure(Remote.connectListDefinedDomains, ({ session: { domains }, args: { maxnames } }) => ({
    names: listDomains(domains, ListFilter.inactive)
      .slice(0, Math.max(maxnames, 0))
      .map((vm) => vm.definition.name),
  })),
  procedure(Remote.domainLookupById, ({ session: { domains }, args }) => ({
    dom: domains.domOf(domains.byId(args.id)),
  })),
  procedure(Remote.domainLookupByName, ({ session: { domains }, args }) => ({
    dom: domains.domOf(domains.byName(args.name)),
  })),
  procedure(Remote.domainLookupByUuid, ({ session: { domains }, args }) => ({
    dom: domains.domOf(domains.byUuid(args.uuid)),
  })),
];
