/** A VM's definition: its machine's configuration, and the supervisor's policy for it. */
import { randomUUID } from 'node:crypto';
import { checkBootable } from '../config/bootable.ts';
import { ConfigError } from '../config/configError.ts';
import { decode } from '../config/decode.ts';
import { U32 } from '../config/limits.ts';
import type { Infer } from '../config/schema.ts';
import { validateVmConfig } from '../config/validate.ts';
import { type VmConfigInput, vmConfig } from '../config/vmConfig.ts';
import type { EndCause } from '../vmm/events.ts';

const restartPolicy = {
  type: 'object',
  name: 'RestartPolicy',
  strict: true,
  fields: {
    when: {
      type: 'enum',
      values: { Never: 'no', OnFailure: 'on-failure', Always: 'always' },
      default: 'Never',
      help: 'Whether a VM that ended of its own accord is started again',
    },
    max_retries: {
      type: 'integer',
      max: U32,
      default: 0,
      help: 'Starts in a row that may fail before it is given up, 0 for any number',
    },
  },
} as const;

const limitsConfig = {
  type: 'object',
  name: 'VmLimits',
  strict: true,
  fields: {
    cpus: { type: 'integer', max: 1_000_000, help: 'Processors that the process may use, in thousandths' },
    memory: { type: 'integer', size: true, help: 'Bytes that the process may use, guest memory included' },
  },
} as const;

export const vmPolicy = {
  type: 'object',
  name: 'VmPolicy',
  strict: true,
  fields: {
    uuid: { type: 'string', help: 'Tells this VM from all others; made up unless given' },
    autostart: {
      type: 'boolean',
      default: false,
      help: 'Start the VM with the first supervisor since the host started',
    },
    transient: {
      type: 'boolean',
      default: false,
      help: 'Remove the VM, and its folder, once it has stopped and is not started again by itself',
    },
    restart: { ...restartPolicy, default: {}, help: 'What to do when the VM ends' },
    end_on: {
      type: 'array',
      items: {
        type: 'enum',
        values: { reset: 'reset', panic: 'panic' } satisfies Readonly<Record<EndCause, EndCause>>,
      },
      default: [],
      help: 'What of the guest ends the VM, beside its power-off: its reset, which else starts it anew; its panic (with pvpanic)',
    },
    limits: {
      ...limitsConfig,
      default: {},
      help: 'Limits by a control group, where the supervisor may make one',
    },
    start_timeout: { type: 'integer', max: 86_400, default: 60, help: 'Seconds that a start may take' },
    stop_timeout: {
      type: 'integer',
      max: 86_400,
      default: 30,
      help: 'Seconds that the guest may take to shut down before it is ended by force',
    },
  },
} as const;

export type VmPolicy = Infer<typeof vmPolicy>;

const definitionFields = {
  config: { ...vmConfig, required: true, help: "As the VM's own vm.create takes it" },
  policy: { ...vmPolicy, default: {}, help: 'What the supervisor does with it' },
} as const;

/** For the description of the API: `readDefinition` reads each part by itself. */
export const vmRedefinition = { type: 'object', name: 'VmRedefinition', fields: definitionFields } as const;
export const vmDefinition = {
  type: 'object',
  name: 'VmDefinition',
  fields: { name: { type: 'string', required: true }, ...definitionFields },
} as const;

export interface Definition {
  readonly name: string;
  /** As it was given: defaults are filled in when the VM starts. */
  readonly config: VmConfigInput;
  readonly policy: VmPolicy;
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Letters and digits first; what a path, a shell and a table have no trouble with. */
const NAME = /^[A-Za-z0-9][\w.+-]{0,62}$/;

export function isName(name: unknown): name is string {
  return typeof name === 'string' && NAME.test(name);
}

/** @throws ConfigError */
function checkName(name: unknown): string {
  if (isName(name)) return name;
  throw new ConfigError(
    'invalid',
    `${JSON.stringify(name)?.slice(0, 80)} is no name of a VM: 1 to 63 letters, digits and _ . + -, a letter or digit first`,
  );
}

/** @param value `{ name, config, policy? }` @param uuid where the policy has none @throws ConfigError */
export function readDefinition(value: unknown, uuid: string = randomUUID()): Definition {
  const { name, config, policy } = (value ?? {}) as Record<string, unknown>;
  decode(vmConfig, config, 'config');
  return {
    name: checkName(name),
    config: config as VmConfigInput,
    policy: { uuid, ...readPolicy(policy ?? {}, 'policy') },
  };
}

/** What a start would say of the machine, but for what only the host can tell. @throws ConfigError */
export function checkMachine({ config }: Definition): void {
  const machine = decode(vmConfig, config, 'config');
  validateVmConfig(machine);
  checkBootable(machine);
}

/** @param path what messages call it @throws ConfigError */
export function readPolicy(value: unknown, path: string): VmPolicy {
  const policy = decode(vmPolicy, value, path);
  if (policy.uuid !== undefined && !UUID.test(policy.uuid)) {
    throw new ConfigError('malformed', `${path}.uuid: "${policy.uuid.slice(0, 40)}" is no UUID`);
  }
  if (policy.transient && policy.autostart) {
    throw new ConfigError(
      'invalid',
      `${path}: a transient VM is not there when the supervisor starts (autostart)`,
    );
  }
  return policy;
}
