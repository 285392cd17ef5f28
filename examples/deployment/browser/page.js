// The page: open the model, let the user drop a photo, show what is predicted.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";
import { documentOf } from "./model_file.js";
import { networkPixels } from "./preprocessing.js";

const MOST_PIXELS = 50_000_000;
const LISTED = 5;
// More threads need headers that isolate the page from other sites.
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = new URL("./node_modules/onnxruntime-web/dist/", import.meta.url).href;

const place = (id) => document.getElementById(id);

/** Open a model, and check that it computes here what it computed where it was exported. */
async function openModel(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`There is no model at ${url}.`);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  const model = { document: documentOf(bytes), session: await ort.InferenceSession.create(bytes) };
  const { images, outputs } = model.document.references;
  const png = await (await fetch(`data:image/png;base64,${images[0]}`)).blob();
  const found = await run(model, (await rgbOf(png)).data);
  if (found.some((value, i) => Math.abs(value - outputs[0][i]) > 1e-3 * Math.max(1, Math.abs(outputs[0][i]))))
    throw new Error("The model computes other outputs here than where it was exported.");
  return model;
}

/** Return the upright RGB pixels of an image file, blended with white. */
async function rgbOf(file) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) throw new Error(`The photo has ${width} x ${height} pixels, which is too many.`);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, width, height).data;
  const data = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    data[to++] = rgba[from];
    data[to++] = rgba[from + 1];
    data[to++] = rgba[from + 2];
  }
  return { data, width, height };
}

/** Return the outputs of the network for pixels of its size. */
async function run({ document, session }, pixels) {
  const images = new ort.Tensor("uint8", pixels, [1, ...document.preprocessing.crop, 3]);
  const outputs = await session.run({ images });
  return Array.from(outputs[session.outputNames[0]].data);
}

/** Return [name, value] for each output, the largest probabilities first. */
async function predict(model, file) {
  const { document } = model;
  const values = await run(model, networkPixels(await rgbOf(file), document.preprocessing));
  const names = document.names ?? values.map((_, i) => `number ${i}`);
  const pairs = values.map((value, i) => [String(names[i]), value]);
  return document.kind === "numbers" ? pairs : pairs.sort((a, b) => b[1] - a[1]);
}

function show(pairs, kind) {
  const rows = pairs.slice(0, LISTED).map(([name, value]) => {
    const row = document.createElement("tr");
    for (const text of [name, kind === "numbers" ? value.toPrecision(4) : `${(100 * value).toFixed(1)} %`])
      row.append(Object.assign(document.createElement("td"), { textContent: text })); // names may contain markup
    return row;
  });
  place("results").replaceChildren(...rows);
}

async function classify(model, file) {
  try {
    place("status").textContent = "Classifying ...";
    const start = performance.now();
    const pairs = await predict(model, file);
    show(pairs, model.document.kind);
    URL.revokeObjectURL(place("photo").src);
    place("photo").src = URL.createObjectURL(file);
    place("status").textContent = `${file.name}: ${Math.round(performance.now() - start)} ms`;
  } catch (error) {
    place("results").replaceChildren();
    place("status").textContent = `${file.name} cannot be used: ${error.message}`;
  }
}

function listen(model) {
  const given = (files) => files.length && classify(model, files[0]);
  place("file").addEventListener("change", (event) => given(event.target.files));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    given(event.dataTransfer.files);
  });
}

try {
  const model = await openModel("model.onnx");
  listen(model);
  place("file").disabled = false;
  place("status").textContent = "Drop a photo here, or choose one.";
} catch (error) {
  place("status").textContent = error.message;
}
