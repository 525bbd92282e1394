/** A supervisor that starts no process, and so hears none. */
import { Supervisor, type SupervisorOptions } from '../../../src/supervisor/supervisor.ts';

type Given = Pick<SupervisorOptions, 'places'> & Partial<Pick<SupervisorOptions, 'warn'>>;

export function supervisorWithoutProcesses({ places, warn = () => {} }: Given): Supervisor {
  const listen = async () => ({ close: () => {} });
  return new Supervisor({ places, listen, launcher: '/bin/false', poolSize: 0, warn });
}
