// The visitor's camera by WebRTC, where the server has it: up as it is, down restyled.

const PATIENCE = 30000; // JPEGs go meanwhile

export class Call {
  /** Whether this browser has all that it takes; some are told to have no WebRTC. */
  static get possible() {
    return "RTCPeerConnection" in window && "requestVideoFrameCallback" in HTMLVideoElement.prototype;
  }

  constructor({ say, onPicture, onOver }) {
    Object.assign(this, { say, onPicture, onOver });
    this.video = document.createElement("video");
    this.video.muted = this.video.playsInline = true;
    this.tried = false;
    this.frames = 0;
  }

  get on() {
    return this.peer?.connectionState === "connected" && this.frames > 0;
  }

  async start(media, longest) {
    this.tried = true;
    const peer = (this.peer = new RTCPeerConnection({ iceServers: [] }));
    const [track] = media.getVideoTracks();
    this.sender = peer.addTrack(track, media);
    peer.ontrack = (event) => this.shows(event.track, peer);
    peer.onconnectionstatechange = () => {
      if (["failed", "closed", "disconnected"].includes(peer.connectionState)) this.over(peer, "it broke off");
    };
    this.timer = setTimeout(() => this.on || this.over(peer, "no way was found"), PATIENCE);
    try {
      const { width, height } = track.getSettings();
      await peer.setLocalDescription(await peer.createOffer());
      await this.fit(Math.max(width ?? longest, height ?? longest) / longest);
      await gathered(peer);
      if (peer === this.peer) this.say({ offer: peer.localDescription.sdp });
    } catch (error) {
      this.over(peer, error.message);
    }
  }

  // The server makes pictures smaller anyway: what it would throw away need not be sent.
  async fit(times) {
    const asked = this.sender.getParameters();
    if (!asked.encodings?.length) return;
    asked.encodings[0].scaleResolutionDownBy = Math.max(1, times);
    await this.sender.setParameters(asked);
  }

  async answered(sdp) {
    const { peer } = this;
    try {
      await peer?.setRemoteDescription({ type: "answer", sdp });
    } catch (error) {
      this.over(peer, error.message);
    }
  }

  replace(media) {
    return this.sender?.replaceTrack(media.getVideoTracks()[0]);
  }

  shows(track, peer) {
    this.video.srcObject = new MediaStream([track]);
    this.video.play().catch(() => {});
    const next = () => this.video.requestVideoFrameCallback(async () => {
      if (peer !== this.peer) return;
      this.frames += 1;
      const picture = await createImageBitmap(this.video).catch(() => null);
      if (picture && peer === this.peer) this.onPicture(picture);
      picture?.close();
      next();
    });
    next();
  }

  /** Seconds of the way there and back; null where that is not known. */
  async roundTrip() {
    if (!this.on) return null;
    for (const one of (await this.peer.getStats()).values()) {
      if (one.type === "candidate-pair" && one.nominated) return one.currentRoundTripTime ?? null;
    }
    return null;
  }

  unanswered(why) {
    this.over(this.peer, why);
  }

  over(peer, why) {
    if (!peer || peer !== this.peer) return;
    this.stop();
    this.tried = true;
    this.onOver(why);
  }

  stop() {
    const { peer } = this;
    this.peer = this.sender = null;
    this.tried = false;
    this.frames = 0;
    clearTimeout(this.timer);
    this.video.srcObject = null;
    peer?.close();
  }
}

// Candidates go with the offer; one that is slow to be found is done without.
function gathered(peer) {
  return new Promise((done) => {
    if (peer.iceGatheringState === "complete") done();
    peer.onicegatheringstatechange = () => peer.iceGatheringState === "complete" && done();
    setTimeout(done, 1000);
  });
}
