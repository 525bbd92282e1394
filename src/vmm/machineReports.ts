/** Reports of a running machine's devices and guest, as events and as human-readable messages. */
import type { VmConfig } from '../config/vmConfig.ts';
import type { MachineEvent } from '../native.ts';
import { describeError } from './errors.ts';
import type { VmmEvent } from './events.ts';
import type { OutputFailure } from './outputFailure.ts';

/** Events that nothing follows from: all but those of a machine's end, a debugger and the escape key of a terminal. */
export type MachineReport = Exclude<
  MachineEvent,
  {
    readonly type:
      | 'power-off'
      | 'reset'
      | 'vcpu-error'
      | 'vcpu-started'
      | 'vcpu-ejected'
      | 'debug-stop'
      | 'terminal-escape';
  }
>;

export interface ReportListener {
  /** Of the VM; undefined once there is none. */
  config(): VmConfig | undefined;
  emit(source: VmmEvent['source'], event: string, texts: Record<string, string>): void;
  warn(message: string): void;
}

/** Of one device. */
const MAX_FAILURE_WARNINGS = 20;

export const PANIC_TEXTS = {
  panic: "The guest's kernel panicked",
  crash_loaded: "The guest's kernel failed and goes on with its crash kernel",
} as const;

export class MachineReports {
  private readonly listener: ReportListener;
  /** How often each device has failed. */
  private readonly failures = new Map<string, number>();

  constructor(listener: ReportListener) {
    this.listener = listener;
  }

  pass(report: MachineReport): void {
    const { emit, warn } = this.listener;
    switch (report.type) {
      case 'device-activated':
        emit('virtio-device', 'activated', { id: report.id });
        return;
      case 'device-reset':
        emit('virtio-device', 'reset', { id: report.id });
        return;
      case 'device-failed':
        emit('virtio-device', 'failed', { id: report.id, reason: report.reason });
        this.warnOfFailure(report.id, report.reason);
        return;
      case 'device-note':
        emit('virtio-device', 'note', { id: report.id, text: report.text });
        return;
      case 'device-warning':
        emit('virtio-device', 'warning', { id: report.id, text: report.text });
        warn(`The ${this.isZone(report.id) ? 'memory zone' : 'device'} ${report.id}: ${report.text}`);
        return;
      case 'guest-panic':
        emit('guest', 'panic', { event: report.event });
        warn(PANIC_TEXTS[report.event]);
        return;
      case 'output-failed':
        // Of a package that was replaced meanwhile, nothing more can be imported.
        this.tellOutputFailure(report).catch((error) => warn(describeError(error)));
        return;
      case 'firmware-log':
        emit('firmware', 'log', { line: report.line });
    }
  }

  private isZone(id: string): boolean {
    return this.listener.config()?.memory.zones?.some((zone) => zone.id === id) === true;
  }

  /** Warnings about failures: a guest can make a device fail any number of times. */
  private warnOfFailure(id: string, reason: string): void {
    const count = (this.failures.get(id) ?? 0) + 1;
    this.failures.set(id, count);
    if (count > MAX_FAILURE_WARNINGS) return;
    const last = count === MAX_FAILURE_WARNINGS ? ' (nothing will be said of further failures)' : '';
    this.listener.warn(`The device ${id} stopped: ${reason}${last}`);
  }

  private async tellOutputFailure(failure: OutputFailure): Promise<void> {
    const config = this.listener.config();
    const { id, file, reason } = failure;
    this.listener.emit('vm', 'output-failed', { id, file, reason });
    const { describeOutputFailure } = await import('./outputFailure.ts');
    if (config) this.listener.warn(describeOutputFailure(config, failure));
  }
}
