/** What the server does for a procedure. */
import type { Session } from '../session.ts';
import type { Answer, Fields, Signature } from '../signatures/signature.ts';
import type { StructOf, Type } from '../types.ts';

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

interface Options {
  readonly writes?: boolean;
  readonly early?: boolean;
}

/** @param run returns the fields of the answer, undefined where there are none; throws what is answered as an error */
export function procedure<A extends Fields, R extends Fields>(
  signature: Signature<A, R>,
  run: (
    call: Call<StructOf<A>>,
  ) => Answer<R> | Promise<Answer<R>> | (keyof R extends never ? void | Promise<void> : never),
  { writes = false, early = false }: Options = {},
): Procedure {
  const { number, api, args, ret } = signature;
  return {
    number,
    api,
    args: args as Type<unknown>,
    ret: ret as Type<unknown>,
    writes,
    early,
    run: run as Procedure['run'],
  };
}
