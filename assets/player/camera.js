// What part of the pictures is seen: `x` and `y` are its left and upper edge, as shares of the picture.

const MOST_ZOOM = 16;

class Camera {
  constructor() {
    this.reset();
  }

  reset() {
    Object.assign(this, { z: 1, x: 0, y: 0 });
  }

  // `across` and `down` say where in the picture's box the point is that stays in its place.
  zoom(by, across = 0.5, down = 0.5) {
    const z = clamp(this.z * by, 1, MOST_ZOOM);
    const [x, y] = [this.x + across / this.z - across / z, this.y + down / this.z - down / z];
    this.z = z;
    this.move(x, y);
  }

  pan(across, down) {
    this.move(this.x - across / this.z, this.y - down / this.z);
  }

  move(x, y) {
    const room = 1 - 1 / this.z;
    Object.assign(this, { x: clamp(x, 0, room), y: clamp(y, 0, room) });
  }
}
