// What is drawn on a canvas: a frame of a sheet, how far two frames are from each other, where a clip flickers.

// From nothing to much, even to eyes that see few colours; its first colour must be black, which says "nothing".
const HEAT = [[0, 0, 0], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]];
const ROUND_LEVELS = [2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 255];

function place(sheet, frame) {
  const held = Math.min(frame, sheet.count - 1);
  return [(held % sheet.columns) * sheet.width, Math.floor(held / sheet.columns) * sheet.height];
}

// The picture of a sheet, once it can be drawn.
async function decoded(src) {
  const image = new Image();
  image.src = src;
  await image.decode();
  return image;
}

function fit(canvas, width, height) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
}

function drawFrame(canvas, sheet, source, frame) {
  const { width, height } = sheet;
  fit(canvas, width, height);
  const pen = canvas.getContext("2d");
  if (source.still) pen.drawImage(source.still, 0, 0, width, height);
  else pen.drawImage(source, ...place(sheet, frame), width, height, 0, 0, width, height);
}

// How far a tile's frame is from that of the tile it is held against, `gain` times as bright.
function drawDifference(canvas, tile, { against, gain }, frame) {
  drawFrame(canvas, tile.sheet, tile.bitmap, frame);
  const pen = canvas.getContext("2d");
  const { width, height } = against.sheet;
  pen.globalCompositeOperation = "difference";
  pen.drawImage(against.bitmap, ...place(against.sheet, frame), width, height, 0, 0, canvas.width, canvas.height);
  pen.globalCompositeOperation = "lighter";
  for (let done = 1; done < gain; done *= 2) pen.drawImage(canvas, 0, 0);
  pen.globalCompositeOperation = "source-over";
}

// A map of flicker at rest, decoded from the picture that it travels as: its levels are the squares of the shades.
async function readHeat({ src, full, high, mean }) {
  const image = await decoded(src.url || src);
  const picture = make("canvas");
  Object.assign(picture, { width: image.naturalWidth, height: image.naturalHeight });
  const pen = picture.getContext("2d", { willReadFrequently: true });
  pen.drawImage(image, 0, 0);
  const { data } = pen.getImageData(0, 0, picture.width, picture.height);
  const map = Float32Array.from({ length: picture.width * picture.height }, (_, at) => full * (data[4 * at] / 255) ** 2);
  return { map, high, mean, scale: 0, picture };
}

const SHADES = Array.from({ length: 256 }, (_, level) => {
  const at = (level / 255) * (HEAT.length - 1);
  const low = Math.min(Math.floor(at), HEAT.length - 2);
  return HEAT[low].map((value, part) => Math.round(value + (at - low) * (HEAT[low + 1][part] - value)));
});

function paintHeat(flicker, scale) {
  const { map, picture } = flicker;
  const pen = picture.getContext("2d");
  const pixels = pen.createImageData(picture.width, picture.height);
  for (let at = 0; at < map.length; at += 1) {
    const shade = SHADES[Math.min(255, Math.round((255 * map[at]) / scale))];
    pixels.data.set(shade, 4 * at);
    pixels.data[4 * at + 3] = 255;
  }
  pen.putImageData(pixels, 0, 0);
  flicker.scale = scale;
}
