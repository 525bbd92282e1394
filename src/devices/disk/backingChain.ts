/** Opening the images that a qcow2 image is an overlay of. Loaded only for qcow2 images. */
import { Descriptor } from '../../boundary/cbor.ts';
import type { ImageFormat, ImageLayer } from '../../native.ts';
import { VmmError } from '../../vmm/errors.ts';
import { reopenForReading } from '../../vmm/namedFiles.ts';
import type { DiskConfig } from '../disk.ts';
import { detectContent } from './imageFormat.ts';
import { type DiskContext, lock, openLayer } from './openDisk.ts';
import { type BackingReference, readBackingReference } from './qcow2Header.ts';

/** Images in one chain; long ones are slow, and a loop is longer than any. */
const MAX_LAYERS = 64;

/** What qcow2 headers call the formats that can be below an image. */
const backingFormats: Readonly<Record<string, ImageFormat>> = {
  raw: 'raw',
  file: 'raw',
  host_device: 'raw',
  qcow2: 'qcow2',
  vpc: 'vhd',
  vhdx: 'vhdx',
};

/**
 * Opens what lies below the first layer of `disk`, for reading and with shared locks: nothing if the image stands for
 * itself.
 * @param first the image's own descriptor
 * @param guessed the image's format was guessed: it may not make us open anything then
 * @throws VmmError if there is a backing file that must not, or cannot, be used
 */
export async function openBackingChain(
  context: DiskContext,
  disk: DiskConfig,
  first: number,
  guessed: boolean,
): Promise<ImageLayer[]> {
  const { native } = context;
  const layers: ImageLayer[] = [];
  let path = disk.path as string;
  const seen = new Set<string>();
  // A descriptor of its own: the first layer's may be open with O_DIRECT, which wants aligned buffers.
  let fd = reopenForReading(native, first);
  context.opened.push(fd);
  for (;;) {
    seen.add(native.fileId(fd));
    const reference = readBackingReference((offset, length) => native.readAt(fd, offset, length), path);
    if (reference === undefined) return layers;
    refuseUnlessAllowed(disk, guessed, reference, path);
    if (layers.length + 1 === MAX_LAYERS) {
      throw new VmmError(`The disk ${disk.path} has more than ${MAX_LAYERS} images on top of each other`);
    }
    const overlay = path;
    path = resolveName(reference.name, overlay);
    fd = await openLayer(context, path, { write: false, direct: false });
    // Before its lock, which may be our own.
    if (seen.has(native.fileId(fd))) {
      throw new VmmError(`The image ${path} is, by way of others, its own backing file`);
    }
    lock(native, fd, path, { exclusive: false, granularity: disk.lock_granularity });
    const format = formatOf(context, reference, fd, path, overlay);
    layers.push({ fd: new Descriptor(fd), format });
    if (format !== 'qcow2') return layers;
  }
}

function refuseUnlessAllowed(
  disk: DiskConfig,
  guessed: boolean,
  reference: BackingReference,
  path: string,
): void {
  if (disk.backing_files && !guessed) return;
  const needed = guessed ? 'image_type=qcow2 and backing_files=on' : 'backing_files=on';
  throw new VmmError(
    `The image ${path} has the backing file ${reference.name}, which needs ${needed} to be opened`,
  );
}

/** A name without a protocol, relative to the image that has it. */
function resolveName(name: string, overlay: string): string {
  const file = name.startsWith('file:') ? name.slice('file:'.length) : name;
  const colon = file.indexOf(':');
  const slash = file.indexOf('/');
  if (colon >= 0 && (slash < 0 || colon < slash)) {
    throw new VmmError(`The image ${overlay} has the backing file ${name}, which is no path`);
  }
  if (file.startsWith('/')) return file;
  const end = overlay.lastIndexOf('/');
  return overlay.slice(0, end + 1) + file;
}

/**
 * An image that does not name its backing file's format leaves it to be guessed, and what was raw once may hold a
 * header that its guest wrote: it is taken for raw if that is what it looks like, and refused otherwise.
 */
function formatOf(
  context: DiskContext,
  reference: BackingReference,
  fd: number,
  path: string,
  overlay: string,
): ImageFormat {
  const { native } = context;
  const content = detectContent(native, fd, native.imageSize(fd));
  if (reference.format === undefined) {
    if (content === 'raw') return 'raw';
    throw new VmmError(
      `The image ${overlay} does not say what format its backing file ${path} has, which looks like ${content}: ` +
        `record it with "qemu-img rebase -u -F FORMAT -b ${reference.name} ${overlay}"`,
    );
  }
  const format = Object.hasOwn(backingFormats, reference.format)
    ? backingFormats[reference.format]
    : undefined;
  if (format === undefined) {
    throw new VmmError(
      `The image ${overlay} has a backing file of format ${reference.format}, which is not supported`,
    );
  }
  if (format !== 'raw' && content !== format) {
    throw new VmmError(`The backing file ${path} of ${overlay} is not the ${format} image that it should be`);
  }
  return format;
}
