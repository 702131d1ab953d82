// The visitor's own camera: frames go up one or two at a time, the newest first.

const AHEAD = 2;
const PATIENCE = 2000;
const QUALITY = 0.82;

export const SIZES = ["640x480", "1280x720", "1920x1080"];

export class Camera {
  constructor(stream) {
    this.stream = stream;
    this.video = document.createElement("video");
    this.video.muted = this.video.playsInline = true;
    this.canvas = document.createElement("canvas");
    this.sent = new Map();
    this.ages = [];
    this.tag = 0;
    this.size = 640;
    this.quiet = () => false; // whether frames go up another way
    this.device = null;
    this.asked = "1280x720";
  }

  get on() {
    return Boolean(this.media);
  }

  async start() {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("browsers give a camera to https and to localhost only");
    }
    const [width, height] = this.asked.split("x").map((side) => ({ ideal: Number(side) }));
    const wanted = { width, height, frameRate: { ideal: 30 } };
    if (this.device) wanted.deviceId = { exact: this.device };
    const media = await navigator.mediaDevices.getUserMedia({ video: wanted });
    this.stop();
    this.media = media;
    this.video.srcObject = media;
    await this.video.play();
    this.next();
  }

  stop() {
    this.media?.getTracks().forEach((track) => track.stop());
    this.media = null;
    this.video.srcObject = null;
    this.sent.clear();
    this.ages = [];
  }

  async devices() {
    const all = await navigator.mediaDevices.enumerateDevices();
    return all.filter((one) => one.kind === "videoinput");
  }

  next() {
    if (!this.on) return;
    if (this.video.requestVideoFrameCallback) {
      this.video.requestVideoFrameCallback(() => this.taken());
    } else setTimeout(() => this.taken(), 33);
  }

  async taken() {
    const media = this.media;
    const now = performance.now();
    for (const [tag, at] of this.sent) if (now - at > PATIENCE) this.sent.delete(tag);
    if (media && !this.quiet() && this.stream.ready && this.sent.size < AHEAD && this.video.videoWidth) {
      const scale = Math.min(1, this.size / Math.max(this.video.videoWidth, this.video.videoHeight));
      this.canvas.width = Math.round(this.video.videoWidth * scale);
      this.canvas.height = Math.round(this.video.videoHeight * scale);
      this.canvas.getContext("2d").drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
      const tag = (this.tag = (this.tag + 1) % 2 ** 32);
      this.sent.set(tag, now);
      const file = await new Promise((done) => this.canvas.toBlob(done, "image/jpeg", QUALITY));
      if (media === this.media && file) this.stream.sendPicture(tag, await file.arrayBuffer());
    }
    this.next();
  }

  // A frame came back: those before it were passed over.
  shown(tag) {
    const at = this.sent.get(tag);
    if (at !== undefined) this.ages = [...this.ages.slice(-59), performance.now() - at];
    for (const one of this.sent.keys()) if (one <= tag) this.sent.delete(one);
  }

  get latency() {
    const sorted = [...this.ages].sort((a, b) => a - b);
    return sorted.length ? Math.round(sorted[sorted.length >> 1]) : null;
  }
}
