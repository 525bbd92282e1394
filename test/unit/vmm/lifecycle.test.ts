import { describe, expect, it } from 'vitest';
import { errorChain, VmmError } from '../../../src/vmm/errors.ts';
import { type Command, type Lifecycle, nextState, transitions } from '../../../src/vmm/lifecycle.ts';

const states: readonly Lifecycle[] = ['none', 'created', 'running', 'paused'];

function attempt(command: Command, state: Lifecycle): string {
  try {
    return nextState(command, state);
  } catch (error) {
    return `${(error as VmmError).kind}: ${errorChain(error).at(-1)}`;
  }
}

const NOT_RUNNING = 'failed: VM is not running';
const MISSING = 'missing: VM is not created';
const NO_CONFIG = 'missing: VM config is missing';
const EXISTS = 'failed: VM is already created';

describe('the lifecycle', () => {
  it.each([
    ['create', ['created', EXISTS, EXISTS, EXISTS]],
    ['boot', [NO_CONFIG, 'running', EXISTS, EXISTS]],
    ['bootPaused', [NO_CONFIG, 'paused', EXISTS, EXISTS]],
    ['delete', ['none', 'none', 'none', 'none']],
    ['shutdown', [NOT_RUNNING, NOT_RUNNING, 'created', 'created']],
    ['reboot', [MISSING, MISSING, 'running', 'running']],
    [
      'pause',
      [
        NOT_RUNNING,
        NOT_RUNNING,
        'paused',
        'failed: Invalid transition: InvalidStateTransition(Paused, Paused)',
      ],
    ],
    [
      'resume',
      [
        NOT_RUNNING,
        NOT_RUNNING,
        'failed: Invalid transition: InvalidStateTransition(Running, Running)',
        'running',
      ],
    ],
    ['powerButton', [NOT_RUNNING, NOT_RUNNING, 'running', 'paused']],
    ['nmi', [NOT_RUNNING, NOT_RUNNING, 'running', 'paused']],
    ['renewGeneration', [NOT_RUNNING, NOT_RUNNING, 'running', 'paused']],
    ['resize', [MISSING, 'created', 'running', 'paused']],
    ['resizeDisk', [MISSING, NOT_RUNNING, 'running', 'paused']],
    ['resizeZone', [MISSING, 'created', 'running', 'paused']],
    ['addDevice', [MISSING, 'created', 'running', 'paused']],
    ['removeDevice', [MISSING, 'created', 'running', 'paused']],
    ['snapshot', [NOT_RUNNING, NOT_RUNNING, 'failed: Trying to snapshot while VM is running', 'paused']],
    ['coredump', [NOT_RUNNING, NOT_RUNNING, 'running', 'paused']],
    ['sendMigration', [NOT_RUNNING, NOT_RUNNING, 'running', 'paused']],
    ['restore', ['paused', EXISTS, EXISTS, EXISTS]],
    ['receiveMigration', ['paused', EXISTS, EXISTS, EXISTS]],
    ['info', [MISSING, 'created', 'running', 'paused']],
    ['counters', [NOT_RUNNING, NOT_RUNNING, 'running', 'paused']],
  ] as const)('%s', (command, outcomes) => {
    expect(states.map((state) => attempt(command, state))).toEqual(outcomes);
  });

  it('lets a VM at a breakpoint do what one that runs may, and be resumed', () => {
    for (const command of Object.keys(transitions) as Command[]) {
      if (command === 'resume' || command === 'snapshot') continue;
      expect(attempt(command, 'breakpoint'), command).toBe(attempt(command, 'running'));
    }
    expect(attempt('resume', 'breakpoint')).toBe('running');
    expect(attempt('snapshot', 'breakpoint')).toBe(attempt('snapshot', 'running'));
  });

  it('has a row for every command', () => {
    expect(Object.keys(transitions)).toHaveLength(23);
  });

  it('reports a refused transition with the causes that clients know', () => {
    try {
      nextState('pause', 'paused');
      expect.unreachable();
    } catch (error) {
      expect(errorChain(error)).toEqual([
        'Cannot pause VM',
        'Failed to pause migratable component',
        'Invalid transition: InvalidStateTransition(Paused, Paused)',
      ]);
    }
  });
});

describe('error chains', () => {
  it('end, though causes go round', () => {
    const a = new VmmError('a');
    const b = new VmmError('b', { cause: a });
    Object.defineProperty(a, 'cause', { value: b });
    expect(errorChain(b)).toEqual(['b', 'a']);
  });

  it('hold whatever was thrown', () => {
    expect(errorChain(new VmmError('a', { cause: 'text' }))).toEqual(['a', 'text']);
    expect(errorChain(undefined)).toEqual([]);
  });
});
