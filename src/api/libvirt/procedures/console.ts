/** The console of a domain, as a stream. */
import { resolve } from 'node:path';
import { invalidOperation, unsupported } from '../errors.ts';
import { Console } from '../signatures/constants.ts';
import { Remote } from '../signatures/index.ts';
import { vmOf } from './lifecycle.ts';
import { type Procedure, procedure } from './procedure.ts';

const NAMES: readonly (string | undefined)[] = [undefined, '', 'serial0', 'console0'];

export const consoleProcedures: readonly Procedure[] = [
  procedure(
    Remote.domainOpenConsole,
    ({ session, args, serial }) => {
      const vm = vmOf(session, args.dom);
      if (!vm.alive) throw invalidOperation('domain is not running');
      const device = session.domains.configOf(vm).serial;
      if (device?.mode !== 'Socket' || !device.socket || !NAMES.includes(args.dev_name)) {
        throw unsupported('virDomainOpenConsole: the domain has no serial port of type pty or unix');
      }
      const path = resolve(vm.folder, device.socket);
      session.streams.attach(
        Remote.domainOpenConsole.number,
        serial,
        { path, alive: () => vm.alive },
        (args.flags & Console.force) !== 0,
      );
    },
    { writes: true },
  ),
];
