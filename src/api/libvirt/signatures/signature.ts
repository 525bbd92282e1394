/** What a procedure of the protocol takes and answers. */
import type { AnyType, StructOf, Type } from '../types.ts';
import { nothing, struct } from '../types.ts';

export type Fields = Readonly<Record<string, AnyType>>;

/** Nothing where there are no fields. */
export type Answer<R> = keyof R extends never ? undefined : StructOf<R>;

export interface Signature<A extends Fields, R extends Fields> {
  readonly number: number;
  /** The function of libvirt's interface, for messages. */
  readonly api: string;
  readonly args: Type<StructOf<A>>;
  readonly ret: Type<Answer<R>>;
}

/** @param args and `ret`, the fields in their order */
export function signature<A extends Fields, R extends Fields>(
  number: number,
  api: string,
  args: A,
  ret: R,
): Signature<A, R> {
  const answer = Object.keys(ret).length === 0 ? nothing : struct(ret);
  return { number, api, args: struct(args), ret: answer as Type<Answer<R>> };
}
