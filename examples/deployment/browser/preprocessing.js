// Resize and crop a photo as Pillow does, so that the network sees the same pixels as in training.
//
// Canvases resize without antialiasing, or differently in each browser. This is Pillow's own method: optionally averages
// of whole blocks, then two passes with a filter as wide as the scale, in whole numbers of 22 bits.

const PRECISION = 22;
const REDUCING_GAP = 2;

const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

function cubic(x) {
  const a = -0.5;
  x = Math.abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

function hamming(x) {
  x = Math.abs(x);
  return x < 1 ? sinc(x) * (0.54 + 0.46 * Math.cos(Math.PI * x)) : 0;
}

const FILTERS = {
  box: { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  hamming: { support: 1, weight: hamming },
  bicubic: { support: 2, weight: cubic },
  lanczos: { support: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** Round to the nearest whole number, and halves to the even one, as Python does. */
function round(x) {
  const below = Math.floor(x);
  if (x - below !== 0.5) return Math.round(x);
  return below % 2 === 0 ? below : below + 1;
}

/** Return the part [left, top, right, bottom] of an image that the crop shows. */
function seenBox(width, height, { resize, crop }) {
  let [resizedHeight, resizedWidth] = Array.isArray(resize) ? resize : [resize, resize];
  if (!Array.isArray(resize)) {
    const other = Math.floor((resize * Math.max(width, height)) / Math.min(width, height));
    if (width <= height) resizedHeight = other;
    else resizedWidth = other;
  }
  const left = round((resizedWidth - crop[1]) / 2);
  const top = round((resizedHeight - crop[0]) / 2);
  const x = width / resizedWidth;
  const y = height / resizedHeight;
  return [left * x, top * y, (left + crop[1]) * x, (top + crop[0]) * y];
}

/** Average blocks of fx x fy pixels of the part [left, top, right, bottom]. */
function reduce(image, [fx, fy], [left, top, right, bottom]) {
  const width = Math.ceil((right - left) / fx);
  const height = Math.ceil((bottom - top) / fy);
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    const y0 = top + y * fy;
    const y1 = Math.min(y0 + fy, bottom);
    for (let x = 0; x < width; x++) {
      const x0 = left + x * fx;
      const x1 = Math.min(x0 + fx, right);
      const n = (y1 - y0) * (x1 - x0);
      const multiplier = Math.floor(2 ** 24 / n);
      for (let c = 0; c < 3; c++) {
        let sum = Math.floor(n / 2);
        for (let v = y0; v < y1; v++)
          for (let u = x0; u < x1; u++) sum += image.data[(v * image.width + u) * 3 + c];
        data[(y * width + x) * 3 + c] = Math.floor((sum * multiplier) / 2 ** 24);
      }
    }
  }
  return { data, width, height };
}

/** Return a weight as a whole number, with halves rounded away from zero. */
const wholeNumber = (weight) => Math.trunc(weight * 2 ** PRECISION + (weight < 0 ? -0.5 : 0.5));

/** Return, for each output position, the first input position and the weights of the inputs from there on. */
function coefficients(inputSize, start, end, outputSize, { support, weight }) {
  const scale = Math.fround(end - start) / outputSize; // in single precision, as in Pillow
  const width = Math.max(scale, 1);
  return Array.from({ length: outputSize }, (_, i) => {
    const center = start + (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support * width + 0.5));
    const last = Math.min(inputSize, Math.trunc(center + support * width + 0.5));
    const weights = Array.from({ length: last - first }, (_, j) => weight((j + first - center + 0.5) * (1 / width)));
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: Int32Array.from(weights, (w) => wholeNumber(w / sum)) };
  });
}

const clipped = (sum) => Math.min(255, Math.max(0, sum >> PRECISION));

/** Resize rows to a width. */
function resizeRows(image, start, end, width, filter) {
  const data = new Uint8Array(width * image.height * 3);
  const columns = coefficients(image.width, start, end, width, filter);
  for (let y = 0; y < image.height; y++) {
    columns.forEach(({ first, weights }, x) => {
      for (let c = 0; c < 3; c++) {
        let sum = 1 << (PRECISION - 1);
        let place = (y * image.width + first) * 3 + c;
        for (const weight of weights) {
          sum += weight * image.data[place];
          place += 3;
        }
        data[(y * width + x) * 3 + c] = clipped(sum);
      }
    });
  }
  return { data, width, height: image.height };
}

/** Resize columns to a height. */
function resizeColumns(image, start, end, height, filter) {
  const data = new Uint8Array(image.width * height * 3);
  const step = image.width * 3;
  coefficients(image.height, start, end, height, filter).forEach(({ first, weights }, y) => {
    for (let i = 0; i < step; i++) {
      let sum = 1 << (PRECISION - 1);
      let place = first * step + i;
      for (const weight of weights) {
        sum += weight * image.data[place];
        place += step;
      }
      data[y * step + i] = clipped(sum);
    }
  });
  return { data, width: image.width, height };
}

/** Return the part of an image that a filter needs to resize a box. */
function neededPart(image, box, [width, height], { support }) {
  const x = ((box[2] - box[0]) / width) * (support - 0.5);
  const y = ((box[3] - box[1]) / height) * (support - 0.5);
  return [
    Math.max(0, Math.trunc(box[0] - x)),
    Math.max(0, Math.trunc(box[1] - y)),
    Math.min(image.width, Math.ceil(box[2] + x)),
    Math.min(image.height, Math.ceil(box[3] + y)),
  ];
}

/**
 * Return the pixels that the network receives.
 *
 * @param {{data: Uint8Array, width: number, height: number}} image - RGB pixels, row by row.
 * @param {object} preprocessing - The field of this name in the document of the model.
 * @returns {Uint8Array} Pixels of the size `preprocessing.crop`, row by row.
 */
export function networkPixels(image, preprocessing) {
  const filter = FILTERS[preprocessing.interpolation];
  if (!filter) throw new Error(`Interpolation by ${preprocessing.interpolation} is not implemented here.`);
  const [height, width] = preprocessing.crop;
  let box = seenBox(image.width, image.height, preprocessing);
  const factors = [
    Math.trunc((box[2] - box[0]) / width / REDUCING_GAP) || 1,
    Math.trunc((box[3] - box[1]) / height / REDUCING_GAP) || 1,
  ];
  if (Math.max(...factors) > 1) {
    const part = neededPart(image, box, [width, height], filter);
    image = reduce(image, factors, part);
    box = box.map((edge, i) => (edge - part[i % 2]) / factors[i % 2]);
  }
  box = box.map(Math.fround); // as Pillow stores it
  const toWidth = (some) => resizeRows(some, box[0], box[2], width, filter);
  const toHeight = (some) => resizeColumns(some, box[1], box[3], height, filter);
  // Pixels are rounded in between, so the order matters for the last bit. Pillow 13 starts with the height of tall images.
  const shortened = image.height - height;
  const isTall = shortened > 0 && shortened > 2 * (image.width - width);
  return (isTall ? toWidth(toHeight(image)) : toHeight(toWidth(image))).data;
}
