/**
 * Writes ACPI Machine Language (ACPI 6.5 §20.2). Calls follow the grammar: an operator's method writes its opcode, and
 * its operands are the calls that come next. Lengths come out minimal, as the reference compiler writes them.
 */
import { setAscii } from '../bytes.ts';
import { packageLengthSize, writePackageLength } from './packageLength.ts';

const EXT_OP = 0x5b;

/** ASCII code of the digit that follows a NameSeg when it is shorter than four characters (ACPI 6.5 §20.2.2). */
const UNDERSCORE = 0x5f;
const NAME_SEG_LENGTH = 4;

/** FieldFlags (ACPI 6.5 §20.2.5.2). */
const BYTE_ACCESS = 0x01;
const DWORD_ACCESS = 0x03;
const WRITE_AS_ZEROS = 0x40;

/** ObjectType of a method (ACPI 6.5 §19.6.96). */
const METHOD_OBJECT = 8;

export interface FieldUnit {
  /** Empty for bits that nothing is known of. */
  readonly name: string;
  readonly bits: number;
}

/**
 * It runs once, in a cold interpreter, on the start path of every machine: bytes are stored directly rather than
 * through a DataView, whose methods cost several times as much there.
 */
export class AmlWriter {
  readonly bytes: Uint8Array;
  /** Where the next byte goes. */
  position: number;

  /** Writes into `bytes` from `position` on; what does not fit is lost, and `position` tells. */
  constructor(bytes: Uint8Array, position: number) {
    this.bytes = bytes;
    this.position = position;
  }

  byte(value: number): this {
    this.bytes[this.position++] = value;
    return this;
  }

  word(value: number): this {
    const { bytes, position } = this;
    bytes[position] = value;
    bytes[position + 1] = value >> 8;
    this.position = position + 2;
    return this;
  }

  dword(value: number): this {
    const { bytes, position } = this;
    bytes[position] = value;
    bytes[position + 1] = value >> 8;
    bytes[position + 2] = value >> 16;
    bytes[position + 3] = value >> 24;
    this.position = position + 4;
    return this;
  }

  /** A non-negative safe integer. */
  qword(value: number): this {
    return this.dword(value).dword(Math.floor(value / 2 ** 32));
  }

  /** ASCII characters, without a terminator. */
  ascii(text: string): this {
    setAscii(this.bytes, this.position, text);
    this.position += text.length;
    return this;
  }

  /** A name string: segments of up to four characters joined by dots, `\` in front for the root. */
  path(name: string): this {
    let start = 0;
    if (name.startsWith('\\')) {
      this.byte(0x5c);
      start = 1;
    }
    let segments = 1;
    for (let dot = name.indexOf('.', start); dot >= 0; dot = name.indexOf('.', dot + 1)) {
      segments++;
    }
    if (segments === 2) {
      this.byte(0x2e);
    } else if (segments > 2) {
      this.byte(0x2f).byte(segments);
    }
    for (let i = 0; i < segments; i++) {
      const dot = name.indexOf('.', start);
      const end = dot < 0 ? name.length : dot;
      this.#nameSeg(name, start, end);
      start = end + 1;
    }
    return this;
  }

  #nameSeg(name: string, start: number, end: number): void {
    for (let i = 0; i < NAME_SEG_LENGTH; i++) {
      this.byte(start + i < end ? name.charCodeAt(start + i) : UNDERSCORE);
    }
  }

  /** A non-negative safe integer, in the shortest encoding. */
  integer(value: number): this {
    if (value <= 1) {
      return this.byte(value);
    }
    if (value <= 0xff) {
      return this.byte(0x0a).byte(value);
    }
    if (value <= 0xffff) {
      return this.byte(0x0b).word(value);
    }
    if (value <= 0xffff_ffff) {
      return this.byte(0x0c).dword(value);
    }
    return this.byte(0x0e).qword(value);
  }

  /** A number from 0 to 255, in as many bytes whichever it is. */
  byteInteger(value: number): this {
    return this.byte(0x0a).byte(value);
  }

  string(text: string): this {
    return this.byte(0x0d).ascii(text).byte(0);
  }

  /** EISAID macro: three letters and four hexadecimal digits packed into a DWord (ACPI 6.5 §19.6.36). */
  eisaId(id: string): this {
    const letters =
      ((id.charCodeAt(0) - 0x40) << 10) | ((id.charCodeAt(1) - 0x40) << 5) | (id.charCodeAt(2) - 0x40);
    const product = Number.parseInt(id.slice(3), 16);
    return this.byte(0x0c)
      .byte(letters >> 8)
      .byte(letters & 0xff)
      .byte(product >> 8)
      .byte(product & 0xff);
  }

  /** `Name(name, ...)`: the value is written next. */
  name(name: string): this {
    return this.byte(0x08).path(name);
  }

  /**
   * Tells disassemblers of methods of other tables, by name and number of arguments (ACPI 6.5 §20.2.5.2), as the
   * reference compiler does: interpreters that do not know the opcode do not get to it.
   */
  externalMethods(methods: readonly (readonly [name: string, args: number])[]): this {
    return this.if(() => {
      this.integer(0);
      for (const [name, args] of methods) this.byte(0x15).path(name).byte(METHOD_OBJECT).byte(args);
    });
  }

  scope(name: string, body: () => void): this {
    this.byte(0x10);
    return this.#package(() => {
      this.path(name);
      body();
    });
  }

  device(name: string, body: () => void): this {
    this.byte(EXT_OP).byte(0x82);
    return this.#package(() => {
      this.path(name);
      body();
    });
  }

  /** `args` is 0 to 7. */
  method(name: string, args: number, serialized: boolean, body: () => void): this {
    this.byte(0x14);
    return this.#package(() => {
      this.path(name).byte(args | (serialized ? 0x08 : 0));
      body();
    });
  }

  /** A package of `count` elements, which `body` writes. */
  package(count: number, body: () => void): this {
    this.byte(0x12);
    return this.#package(() => {
      this.byte(count);
      body();
    });
  }

  /** A buffer of the bytes that `body` writes. */
  buffer(body: () => void): this {
    this.byte(0x11);
    return this.#package(() => {
      const start = this.position;
      body();
      const size = this.position - start;
      this.#insert(start, integerLength(size));
      const end = this.position;
      this.position = start;
      this.integer(size);
      this.position = end;
    });
  }

  /** A buffer of resource descriptors with its end tag; a checksum of 0 counts as valid (ACPI 6.5 §6.4.2.9). */
  resourceTemplate(body: () => void): this {
    return this.buffer(() => {
      body();
      this.byte(0x79).byte(0);
    });
  }

  /** `body` writes the predicate, then the statements. */
  if(body: () => void): this {
    this.byte(0xa0);
    return this.#package(body);
  }

  /** `body` writes the predicate, then the statements. */
  while(body: () => void): this {
    this.byte(0xa2);
    return this.#package(body);
  }

  /** `CondRefOf(name)`: whether there is something of that name. */
  condRefOf(name: string): this {
    return this.byte(EXT_OP).byte(0x12).path(name).byte(0);
  }

  /** `LLess`: two operands follow. */
  less(): this {
    return this.byte(0x95);
  }

  /** `Increment`: the target follows. */
  increment(): this {
    return this.byte(0x75);
  }

  /** `LEqual`: two operands follow. */
  equal(): this {
    return this.byte(0x93);
  }

  /** `And` without a target: two operands follow. */
  and(left: () => void, right: () => void): this {
    this.byte(0x7b);
    left();
    right();
    return this.byte(0);
  }

  /** `ShiftLeft`: value, count and target follow. */
  shiftLeft(): this {
    return this.byte(0x79);
  }

  /** `Or`: two operands and the target follow. */
  or(): this {
    return this.byte(0x7d);
  }

  /** `Add`: two operands and the target follow. */
  add(): this {
    return this.byte(0x72);
  }

  /** `Subtract`: minuend, subtrahend and target follow. */
  subtract(): this {
    return this.byte(0x74);
  }

  /** `CreateQWordField`: 64 bits of a buffer, from a byte on, by a name. */
  qwordFieldOf(buffer: string, at: number, name: string): this {
    return this.byte(0x8f).path(buffer).integer(at).path(name);
  }

  /** A mutex that any method may take, whatever it holds already. */
  mutex(name: string): this {
    return this.byte(EXT_OP).byte(0x01).path(name).byte(0);
  }

  /** `Acquire(name, 0xffff)`, which waits without end. */
  acquire(name: string): this {
    return this.byte(EXT_OP).byte(0x23).path(name).word(0xffff);
  }

  /** `Release(name)`. */
  release(name: string): this {
    return this.byte(EXT_OP).byte(0x27).path(name);
  }

  /** `Store`: source and target follow. */
  store(): this {
    return this.byte(0x70);
  }

  /** `Notify(target, value)`. */
  notify(target: string, value: number): this {
    return this.notifyOf(target).integer(value);
  }

  /** `Notify(target, ...)`: the value follows. */
  notifyOf(target: string): this {
    return this.byte(0x86).path(target);
  }

  /** `Return`: the value follows. */
  return(): this {
    return this.byte(0xa4);
  }

  local(index: number): this {
    return this.byte(0x60 + index);
  }

  arg(index: number): this {
    return this.byte(0x68 + index);
  }

  /** An OperationRegion in system memory. */
  memoryRegion(name: string, address: number, size: number): this {
    return this.byte(EXT_OP).byte(0x80).path(name).byte(0).integer(address).integer(size);
  }

  /** A Field over `region` with byte access and no lock, whose bits not written become zero. */
  byteField(region: string, fields: readonly FieldUnit[]): this {
    return this.#field(region, BYTE_ACCESS, fields);
  }

  /** The same with accesses of 32 bits. */
  dwordField(region: string, fields: readonly FieldUnit[]): this {
    return this.#field(region, DWORD_ACCESS, fields);
  }

  #field(region: string, access: number, fields: readonly FieldUnit[]): this {
    this.byte(EXT_OP).byte(0x81);
    return this.#package(() => {
      this.path(region).byte(access | WRITE_AS_ZEROS);
      for (const field of fields) {
        if (field.name === '') this.byte(0);
        else this.#nameSeg(field.name, 0, field.name.length);
        this.#packageLength(field.bits, packageLengthSize(field.bits, 0));
      }
    });
  }

  /** Writes `body` with its PkgLength in front (ACPI 6.5 §20.2.4), which counts itself. */
  #package(body: () => void): this {
    const start = this.position;
    body();
    const length = this.position - start;
    const size = packageLengthSize(length, 1);
    this.#insert(start, size);
    const end = this.position;
    this.position = start;
    this.#packageLength(length + size, size);
    this.position = end;
    return this;
  }

  #packageLength(length: number, size: number): void {
    writePackageLength(this.bytes, this.position, length, size);
    this.position += size;
  }

  /** Makes room for `count` bytes at `at` by moving what was written since. */
  #insert(at: number, count: number): void {
    this.bytes.copyWithin(at + count, at, this.position);
    this.position += count;
  }
}

/** Bytes that `integer` writes for a value below 2^32. */
function integerLength(value: number): number {
  return value <= 1 ? 1 : value <= 0xff ? 2 : value <= 0xffff ? 3 : 5;
}
