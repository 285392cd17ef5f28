// Read the document that sktl.export stored in the metadata of an ONNX file. ONNX Runtime Web does not return it.
//
// An ONNX file is a message of Protocol Buffers: a sequence of numbered fields, each with its length.

const METADATA = 14; // field of the model that holds pairs of a key and a value
const KEY = 1;
const VALUE = 2;
const FORMAT = 1;

/** Yield [number, bytes] for each field of a message that has a length. */
function* fields(bytes) {
  let place = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      if (place >= bytes.length || shift > 2 ** 56) throw new Error("The file is damaged, or not an ONNX file.");
      const byte = bytes[place++];
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  };
  while (place < bytes.length) {
    const tag = varint();
    const kind = tag % 8;
    if (kind === 0) varint();
    else if (kind === 1) place += 8;
    else if (kind === 5) place += 4;
    else if (kind === 2) {
      const length = varint();
      if (place + length > bytes.length) throw new Error("The file is cut off, or not an ONNX file.");
      yield [Math.floor(tag / 8), bytes.subarray(place, place + length)];
      place += length;
    } else throw new Error("The file is damaged, or not an ONNX file.");
  }
}

/**
 * Return the document of an exported model.
 *
 * @param {Uint8Array} bytes - The ONNX file.
 * @returns {object} With `kind`, `names`, `preprocessing` and `references`, among others.
 */
export function documentOf(bytes) {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  for (const [number, entry] of fields(bytes)) {
    if (number !== METADATA) continue;
    const pair = Object.fromEntries(fields(entry));
    if (decoder.decode(pair[KEY]) !== "sktl") continue;
    const found = JSON.parse(decoder.decode(pair[VALUE]));
    if (found.format !== FORMAT) throw new Error(`The model has format ${found.format}; this page reads ${FORMAT}.`);
    return found;
  }
  throw new Error("The file was not written by sktl.export.");
}
