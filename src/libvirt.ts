/**
 * A client of libvirt's protocol, for `tsvmmd` and for any `libvirtd`. It needs neither libvirt nor the rest of this
 * library.
 *
 * ```ts
 * import { connect } from 'tsvmm/libvirt';
 *
 * await using connection = await connect('tsvmm+unix:///system?socket=/tmp/vms/virttsvmmd-sock');
 * const events = await connection.domainEvents('lifecycle');
 * const domain = await connection.defineDomain(xml);
 * await domain.start();
 * for await (const { domain: { name }, event, detail } of events) console.log(name, event, detail);
 * ```
 */
export { type ConnectOptions, connect } from './api/libvirt/client/connect.ts';
export type {
  CloseReason,
  CreateOptions,
  DefineOptions,
  DomainCapabilitiesOptions,
  DomainEvent,
  DomainFilter,
  DomainStats,
  LibvirtConnection,
  ListOptions,
  NodeInfo,
  StatsGroup,
  StatsOptions,
} from './api/libvirt/client/connection.ts';
export type {
  AffectOptions,
  BlockInfo,
  ConsoleOptions,
  ControlInfo,
  CoreDumpOptions,
  DomainInfo,
  InterfaceAddresses,
  InterfaceStats,
  LibvirtDomain,
  MaximumOptions,
  MemoryStatName,
  MetadataKind,
  SaveOptions,
  SetMetadataOptions,
  ShutdownMode,
  ShutdownOptions,
  StartOptions,
  TransferStats,
  UndefineOptions,
  VcpuInfo,
  XmlOptions,
} from './api/libvirt/client/domain.ts';
export type {
  DomainEventContents,
  DomainEventKind,
  EventsOptions,
} from './api/libvirt/client/domainEvents.ts';
export type { EventStream } from './api/libvirt/client/eventStream.ts';
export type { KeepaliveOptions } from './api/libvirt/client/heartbeat.ts';
export type { LibvirtStream } from './api/libvirt/client/libvirtStream.ts';
export type {
  DomainState,
  DomainStateReason,
  LifecycleEventDetail,
  LifecycleEventName,
} from './api/libvirt/client/names.ts';
export type { CallOptions } from './api/libvirt/client/rpcClient.ts';
export type { Parameters } from './api/libvirt/client/values.ts';
export { LibvirtError } from './api/libvirt/libvirtError.ts';
export type { Abortable } from './host/abort.ts';
