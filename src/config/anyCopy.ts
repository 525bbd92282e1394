/**
 * A program can have the package more than once: as a module and as CommonJS, or in a bundle and beside it. Each copy
 * has classes of its own, and an error of one has to be known by the class of another.
 */

type AnyClass = abstract new (...args: never) => object;

/** Makes `instanceof` of this class, though not of those derived from it, true for objects of every copy. */
export function recognizeAnyCopy(known: AnyClass, name: string): void {
  const mark = Symbol.for(`tsvmm.${name}`);
  Object.defineProperty(known.prototype, mark, { value: true });
  Object.defineProperty(known, Symbol.hasInstance, {
    value(this: AnyClass, value: unknown): boolean {
      if (this !== known) return Function.prototype[Symbol.hasInstance].call(this, value);
      return typeof value === 'object' && value !== null && mark in value;
    },
  });
}
