/** What a procedure is. */
import type { Session } from '../session.ts';
import type { AnyType, StructOf, Type } from '../types.ts';
import { nothing, struct } from '../types.ts';

export interface Call<A> {
  readonly session: Session;
  readonly args: A;
  /** Of the call, which a stream that it opens has as well. */
  readonly serial: number;
}

export interface Procedure {
  readonly number: number;
  /** The function of libvirt's interface, for messages. */
  readonly api: string;
  readonly args: Type<unknown>;
  readonly ret: Type<unknown>;
  /** Changes something, opens a console or tells secrets: not on a read-only connection. */
  readonly writes: boolean;
  /** Permitted before the connection is open. */
  readonly early: boolean;
  run(call: Call<never>): unknown;
}

type Fields = Readonly<Record<string, AnyType>>;

interface Options {
  readonly writes?: boolean;
  readonly early?: boolean;
}

/**
 * @param args and `ret`, the fields in their order
 * @param run returns the fields of the answer, undefined where there are none; throws what is answered as an error
 */
export function procedure<A extends Fields, R extends Fields>(
  number: number,
  api: string,
  args: A,
  ret: R,
  run: (
    call: Call<StructOf<A>>,
  ) => StructOf<R> | Promise<StructOf<R>> | (keyof R extends never ? void | Promise<void> : never),
  { writes = false, early = false }: Options = {},
): Procedure {
  return {
    number,
    api,
    args: Object.keys(args).length === 0 ? (nothing as Type<unknown>) : (struct(args) as Type<unknown>),
    ret: Object.keys(ret).length === 0 ? (nothing as Type<unknown>) : (struct(ret) as Type<unknown>),
    writes,
    early,
    run: run as Procedure['run'],
  };
}
