/** What devices are made of: each is read by its own file of native/virtio/. */
import type { Descriptor } from './cbor.ts';

/**
 * The host end of a character device. `tty` reads `input`, if there is one, and writes `output`. `log` gets the output
 * as well.
 */
export type CharBackendSpec = CharBackendKind & { readonly log?: Descriptor };

type CharBackendKind =
  | { readonly kind: 'null' }
  | { readonly kind: 'tty'; readonly input?: Descriptor; readonly output: Descriptor }
  | { readonly kind: 'file'; readonly fd: Descriptor }
  | { readonly kind: 'pty'; readonly fd: Descriptor }
  | { readonly kind: 'socket'; readonly listener: Descriptor };

export type ImageFormat = 'raw' | 'qcow2' | 'vhd' | 'vhdx';

export interface ImageLayer {
  readonly fd: Descriptor;
  readonly format: ImageFormat;
}

/** Of bytes or operations; with size or refill time 0 there is no limit. */
export interface TokenBucketSpec {
  readonly size: number | bigint;
  /** Tokens on top of a full bucket, which go first and never come back. */
  readonly oneTimeBurst: number | bigint;
  /** How long an empty bucket takes to fill. */
  readonly refillTimeMs: number | bigint;
}

/** What a network device is plugged into. */
export type NetworkSpec =
  /** A tap by one descriptor for each pair of queues, opened with IFF_VNET_HDR. */
  | {
      readonly kind: 'tap';
      readonly fds: readonly Descriptor[];
      /** /dev/vhost-net, opened for each pair of queues: the kernel is to move the frames. Empty if not. */
      readonly vhost: readonly Descriptor[];
    }
  /** A connected stream socket with each frame behind its length, as passt has. One pair of queues. */
  | { readonly kind: 'stream'; readonly fd: Descriptor };

export interface RateLimiterSpec {
  /** Devices that name the same group share its limits; '' for limits of the device's own. */
  readonly group: string;
  readonly bandwidth: TokenBucketSpec;
  readonly operations: TokenBucketSpec;
}

/**
 * What a device is to be: its kind, and what that takes. `src/devices/NAME.ts` writes it and `native/virtio/NAME.cc`
 * reads it, which refuses what it does not know; nothing between them looks at it.
 */
export interface DeviceSpec {
  readonly kind: string;
  readonly [field: string]: unknown;
}

/** A device, and where it is on the bus. */
export interface PciFunctionSpec extends DeviceSpec {
  readonly id: string;
  readonly segment: number;
  /** Device number on the segment's bus 0, 0 to 31; 0 of segment 0 is the host bridge's. */
  readonly slot: number;
  readonly bar0: number;
  readonly bar0Is64Bit: boolean;
  /** Of a device with memory of its own; always 64-bit. */
  readonly bar2?: number;
  /** Its accesses go through the machine's IOMMU. */
  readonly iommu?: boolean;
}
