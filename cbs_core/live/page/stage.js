// The picture: drawn on a canvas, clicked on, split.

export class Stage {
  constructor(onPick) {
    this.frame = document.getElementById("frame");
    this.canvas = document.getElementById("picture");
    this.divider = document.getElementById("divider");
    this.ring = document.getElementById("ring");
    this.context = this.canvas.getContext("2d");
    this.number = 0;
    this.frames = 0;
    this.canvas.addEventListener("click", (event) => {
      const box = this.canvas.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width;
      const y = (event.clientY - box.top) / box.height;
      if (x < 0 || y < 0 || x > 1 || y > 1) return;
      const frame = this.frame.getBoundingClientRect();
      this.ring.style.left = `${event.clientX - frame.left}px`;
      this.ring.style.top = `${event.clientY - frame.top}px`;
      this.ring.hidden = true;
      void this.ring.offsetWidth; // begins the animation anew
      this.ring.hidden = false;
      onPick(this.number, x, y);
    });
    this.divider.addEventListener("input", () => this.redraw());
    new ResizeObserver(() => this.place()).observe(this.frame);
  }

  draw(head, pictures) {
    const [first, second] = pictures;
    if (this.canvas.width !== first.width || this.canvas.height !== first.height) {
      this.canvas.width = first.width;
      this.canvas.height = first.height;
      this.frame.style.setProperty("--ratio", first.width / first.height);
      this.place();
    }
    this.number = head.frame;
    this.frames += 1;
    this.canvas.dataset.frames = this.frames;
    this.paint(first, second);
    if (second) this.keep(first, second);
  }

  paint(first, second) {
    const { width, height } = this.canvas;
    this.context.drawImage(first, 0, 0);
    if (!second) return;
    const at = Math.round((width * this.divider.value) / 100);
    if (at) this.context.drawImage(second, 0, 0, at, height, 0, 0, at, height);
    this.context.fillStyle = "#fff";
    this.context.fillRect(at - 1, 0, Math.max(2, width / 480), height);
  }

  // A still is kept of both halves, so that the divider moves between two frames, too.
  keep(first, second) {
    this.kept ??= [new OffscreenCanvas(1, 1), new OffscreenCanvas(1, 1)];
    [first, second].forEach((picture, at) => {
      const kept = this.kept[at];
      if (kept.width !== picture.width || kept.height !== picture.height) {
        kept.width = picture.width;
        kept.height = picture.height;
      }
      kept.getContext("2d").drawImage(picture, 0, 0);
    });
  }

  redraw() {
    if (this.kept && !this.divider.hidden) this.paint(...this.kept);
  }

  split(on) {
    this.divider.hidden = !on;
    this.place();
  }

  place() {
    const frame = this.frame.getBoundingClientRect();
    const box = this.canvas.getBoundingClientRect();
    this.divider.style.left = `${box.left - frame.left - 17}px`;
    this.divider.style.width = `${box.width + 34}px`;
  }
}
