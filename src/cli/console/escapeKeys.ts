/** The keys that detach from a guest's console, whatever the guest does. */

const CTRL_A = 0x01;
const CTRL_BRACKET = 0x1d;
/** In the control characters' place of ASCII. */
const CONTROL_MASK = 0x1f;

export interface EscapeSetting {
  /** This key alone detaches. */
  readonly key?: number;
  /** This key and x behind it detach; twice, it is one such key for the guest. As at the VM's own terminal. */
  readonly prefix?: number;
  /** Human-readable. */
  readonly text: string;
}

export const DEFAULT_ESCAPE: EscapeSetting = {
  key: CTRL_BRACKET,
  prefix: CTRL_A,
  text: 'Ctrl-] or Ctrl-A x detaches',
};

/** `^T`, or `none`. Undefined for anything else. */
export function parseEscape(text: string): EscapeSetting | undefined {
  if (text === 'none') return { text: 'no key detaches' };
  const letter = /^\^([A-Za-z[\]\\^_])$/.exec(text)?.[1]?.toUpperCase();
  if (letter === undefined) return undefined;
  return { key: letter.charCodeAt(0) & CONTROL_MASK, text: `Ctrl-${letter} detaches` };
}

export class EscapeKeys {
  readonly #setting: EscapeSetting;
  #afterPrefix = false;

  constructor(setting: EscapeSetting) {
    this.#setting = setting;
  }

  /** @returns what of it is the guest's; undefined if it is the escape */
  take(typed: Uint8Array): Uint8Array | undefined {
    const guest: number[] = [];
    for (const byte of typed) {
      if (this.#afterPrefix) {
        this.#afterPrefix = false;
        if (byte === 0x78 || byte === 0x58) return undefined;
        if (byte !== this.#setting.prefix) guest.push(this.#setting.prefix as number);
        guest.push(byte);
      } else if (byte === this.#setting.key) return undefined;
      else if (byte === this.#setting.prefix) this.#afterPrefix = true;
      else guest.push(byte);
    }
    return Uint8Array.from(guest);
  }
}
