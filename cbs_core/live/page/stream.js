// The WebSocket: frames and states come down; what is shown, and a camera's frames, go up.

const PAUSES = [300, 700, 1500, 3000];

export class Stream {
  constructor({ onFrame, onState, onOpen, onLost, onRefused, onPreparing, onAnswer }) {
    Object.assign(this, { onFrame, onState, onOpen, onLost, onRefused, onPreparing, onAnswer });
    this.views = ["restyled"];
    this.camera = false;
    this.tries = 0;
    this.busy = false;
  }

  open(camera = this.camera) {
    this.camera = camera;
    clearTimeout(this.timer);
    if (this.socket) {
      this.socket.onclose = this.socket.onmessage = null;
      this.socket.close();
    }
    const url = new URL(`v1/stream${camera ? "?camera=true" : ""}`, location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = (this.socket = new WebSocket(url));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.refused = false;
      this.say({ views: this.views });
      this.onOpen(camera);
    };
    socket.onmessage = (event) => this.heard(event.data, socket);
    socket.onclose = () => {
      this.onLost(this.refused);
      const pause = this.refused ? 5000 : PAUSES[Math.min(this.tries++, PAUSES.length - 1)];
      this.timer = setTimeout(() => this.open(), pause);
    };
  }

  say(message) {
    if (this.ready) this.socket.send(JSON.stringify(message));
  }

  get ready() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  show(views) {
    this.views = views;
    this.say({ views });
  }

  sendPicture(tag, jpeg) {
    if (!this.ready) return;
    const message = new Uint8Array(4 + jpeg.byteLength);
    new DataView(message.buffer).setUint32(0, tag);
    message.set(new Uint8Array(jpeg), 4);
    this.socket.send(message);
  }

  async heard(data, socket) {
    if (typeof data === "string") {
      const told = JSON.parse(data);
      if (told.refused) {
        this.refused = true;
        this.onRefused(told.refused);
      } else if (told.preparing) {
        this.onPreparing(told.preparing);
      } else if (told.answer || told.unanswered) {
        this.onAnswer(told);
      } else {
        this.tries = 0;
        this.onState(told);
      }
      return;
    }
    const size = new DataView(data).getUint32(0);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, size)));
    let at = 4 + size;
    const files = head.sizes.map((length) => {
      const file = new Blob([new Uint8Array(data, at, length)], { type: "image/jpeg" });
      at += length;
      return file;
    });
    try {
      const pictures = await Promise.all(files.map((file) => createImageBitmap(file)));
      if (socket === this.socket) this.onFrame(head, pictures);
      pictures.forEach((picture) => picture.close());
    } finally {
      if (socket === this.socket) this.say({ shown: head.frame });
    }
  }
}
