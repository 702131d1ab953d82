// Shows a scene before (left) and after (right) of a line that the slider moves.
import {
  BufferAttribute, BufferGeometry, Color, DataTexture, DoubleSide, FloatType, HalfFloatType,
  InstancedBufferAttribute, InstancedBufferGeometry, Mesh, MeshBasicMaterial, NearestFilter, PerspectiveCamera, PlaneGeometry,
  RGBAFormat, RepeatWrapping, Scene, ShaderMaterial, SRGBColorSpace, TextureLoader, Vector2,
  Vector3, WebGLRenderer, WebGLRenderTarget,
} from 'three'
import { OrbitControls } from 'three/examples/jsm/controls/OrbitControls.js'

const data = JSON.parse(document.getElementById('data').textContent)
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0))
const floats = (text) => new Float32Array(bytes(text).buffer)
const halves = (text) => new Uint16Array(bytes(text).buffer)

function linear(values) {
  const out = new Float32Array(values.length)
  for (let i = 0; i < values.length; i++) {
    const x = values[i] / 255
    out[i] = x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4
  }
  return out
}

function texture(url, draw) {
  const out = new TextureLoader().load(url, draw)
  out.flipY = false
  out.wrapS = out.wrapT = RepeatWrapping
  out.colorSpace = SRGBColorSpace
  out.anisotropy = 4
  return out
}

function meshScene(when, draw) {
  const scene = new Scene()
  for (const part of data.parts) {
    const geometry = new BufferGeometry()
    geometry.setAttribute('position', new BufferAttribute(floats(part.position), 3))
    geometry.setAttribute('color', new BufferAttribute(linear(bytes(part[`colour_${when}`])), 3))
    if (part.uv) geometry.setAttribute('uv', new BufferAttribute(floats(part.uv), 2))
    const map = part.uv ? texture(part[`texture_${when}`], draw) : null
    scene.add(new Mesh(geometry, new MeshBasicMaterial({ map, vertexColors: true, side: DoubleSide })))
  }
  return { scene, sort() {} }
}

// Splats: a square an instance, as large as the Gaussian's cross section (Kerbl et al. 2023, Zwicker
// et al. 2001), drawn from back to front. Four texels hold a splat: place, covariance, colour.
const VERTEX = `
  precision highp float;
  uniform highp sampler2D shapes;
  uniform highp sampler2D colours;
  uniform vec2 view;
  uniform float focal;
  attribute float which;
  varying vec4 colour;
  varying vec2 at;
  vec4 texel(highp sampler2D from, float index) {
    return texelFetch(from, ivec2(int(mod(index, 2048.0)), int(index / 2048.0)), 0);
  }
  void main() {
    vec4 a = texel(shapes, which * 3.0), b = texel(shapes, which * 3.0 + 1.0);
    vec4 c = texel(shapes, which * 3.0 + 2.0);
    vec4 centre = modelViewMatrix * vec4(a.xyz, 1.0);
    gl_Position = vec4(0.0, 0.0, 2.0, 1.0);
    if (centre.z > -0.01) return;
    mat3 world = mat3(b.x, b.y, b.z, b.y, b.w, c.x, b.z, c.x, c.y);
    mat3 turn = mat3(modelViewMatrix);
    float z = -centre.z;
    vec2 limit = 1.3 * view * 0.5 / focal;
    vec2 on = clamp(centre.xy / z, -limit, limit) * z;
    mat3 slope = mat3(focal / z, 0.0, 0.0, 0.0, focal / z, 0.0, focal * on.x / (z * z), focal * on.y / (z * z), 0.0);
    mat3 flatten_ = slope * turn;
    mat3 flat_ = flatten_ * world * transpose(flatten_);
    float x = flat_[0][0] + 0.3, y = flat_[1][1] + 0.3, xy = flat_[0][1];
    float middle = 0.5 * (x + y), spread = length(vec2(0.5 * (x - y), xy));
    float large = middle + spread, small = max(middle - spread, 0.05);
    vec2 axis = spread < 1e-6 ? vec2(1.0, 0.0) : normalize(vec2(xy, large - x) + vec2(x > y ? 1e-9 : 0.0, 0.0));
    if (abs(xy) < 1e-9) axis = x >= y ? vec2(1.0, 0.0) : vec2(0.0, 1.0);
    float reach = sqrt(2.0 * log(max(255.0 * a.w, 1.0)));
    vec2 out_ = position.x * reach * sqrt(large) * axis + position.y * reach * sqrt(small) * vec2(-axis.y, axis.x);
    vec4 clip = projectionMatrix * centre;
    gl_Position = clip + vec4(out_ * 2.0 / view * clip.w, 0.0, 0.0);
    at = position.xy * reach;
    colour = vec4(texel(colours, which).rgb, a.w);
  }`
const FRAGMENT = `
  precision highp float;
  varying vec4 colour;
  varying vec2 at;
  void main() {
    float alpha = min(0.99, colour.a * exp(-0.5 * dot(at, at)));
    if (alpha < 1.0 / 255.0) discard;
    gl_FragColor = vec4(colour.rgb, alpha);
  }`

// A canvas holds 256 levels and nothing lighter than white. A hundred splats lie one above the other
// in a pixel, and may be lighter: they are blended in a finer picture, which is then copied.
function finer(renderer) {
  const { extensions } = renderer
  if (!extensions.has('EXT_color_buffer_float') && !extensions.has('EXT_color_buffer_half_float')) return null
  const target = new WebGLRenderTarget(1, 1, { type: HalfFloatType, depthBuffer: false })
  target.scissorTest = true
  const copy = new Scene()
  copy.add(new Mesh(new PlaneGeometry(2, 2), new ShaderMaterial({
    uniforms: { from: { value: target.texture } }, depthTest: false, depthWrite: false,
    vertexShader: 'varying vec2 at; void main() { at = uv; gl_Position = vec4(position.xy, 0.0, 1.0); }',
    fragmentShader: 'uniform sampler2D from; varying vec2 at; void main() { gl_FragColor = vec4(texture2D(from, at).rgb, 1.0); }',
  })))
  return { target, copy }
}

function square(values, width, each, type, Kind) {
  const height = Math.ceil(values.length / each / width)
  const all = new Kind(width * height * 4)
  for (let i = 0; i * each < values.length; i++) {
    for (let k = 0; k < each; k++) all[i * 4 + k] = values[i * each + k]
  }
  const out = new DataTexture(all, width, height, RGBAFormat, type)
  out.magFilter = out.minFilter = NearestFilter
  out.needsUpdate = true
  return out
}

function splatScenes() {
  const shapes = floats(data.shapes)
  const count = shapes.length / 12
  const geometry = new InstancedBufferGeometry()
  const corners = new Float32Array([-1, -1, 0, 1, -1, 0, 1, 1, 0, -1, 1, 0])
  geometry.setAttribute('position', new BufferAttribute(corners, 3))
  geometry.setIndex([0, 1, 2, 0, 2, 3])
  const order = new Float32Array(count).map((_, i) => i)
  const which = new InstancedBufferAttribute(order, 1)
  geometry.setAttribute('which', which)
  geometry.instanceCount = count
  const shape = square(shapes, 2048, 4, FloatType, Float32Array)
  const scenes = ['before', 'after'].map((when) => {
    const scene = new Scene()
    const material = new ShaderMaterial({
      vertexShader: VERTEX, fragmentShader: FRAGMENT, transparent: true, depthTest: false, depthWrite: false,
      uniforms: {
        shapes: { value: shape }, focal: { value: 1 }, view: { value: new Vector2(1, 1) },
        colours: { value: square(halves(data[`colour_${when}`]), 2048, 3, HalfFloatType, Uint16Array) },
      },
    })
    const mesh = new Mesh(geometry, material)
    mesh.frustumCulled = false
    scene.add(mesh)
    return { scene, material }
  })
  const depth = new Float32Array(count)
  const last = new Vector3(9, 9, 9)
  const SHELVES = 65536
  const bins = new Uint32Array(SHELVES + 1)
  function sort(camera) {
    const ahead = camera.getWorldDirection(new Vector3())
    if (ahead.distanceToSquared(last) < 1e-5) return
    last.copy(ahead)
    let low = Infinity, high = -Infinity
    for (let i = 0; i < count; i++) {
      const d = shapes[i * 12] * ahead.x + shapes[i * 12 + 1] * ahead.y + shapes[i * 12 + 2] * ahead.z
      depth[i] = d
      if (d < low) low = d
      if (d > high) high = d
    }
    bins.fill(0)
    const scale = (SHELVES - 1) / Math.max(high - low, 1e-9)
    for (let i = 0; i < count; i++) bins[SHELVES - 1 - Math.floor((depth[i] - low) * scale) + 1]++
    for (let i = 0; i < SHELVES; i++) bins[i + 1] += bins[i]
    for (let i = 0; i < count; i++) order[bins[SHELVES - 1 - Math.floor((depth[i] - low) * scale)]++] = i
    which.needsUpdate = true
  }
  return scenes.map(({ scene, material }) => ({
    scene, sort,
    size(width, height, focal) {
      material.uniforms.view.value.set(width, height)
      material.uniforms.focal.value = focal
    },
  }))
}

try {
  const renderer = new WebGLRenderer({ antialias: true, preserveDrawingBuffer: true })
  const fine = data.kind === 'splats' ? finer(renderer) : null
  const paper = new Color(0xededed)
  renderer.autoClear = false
  document.body.prepend(renderer.domElement)
  const up = new Vector3(...data.up), centre = new Vector3(...data.centre)
  const camera = new PerspectiveCamera(40, 1, data.radius / 50, data.radius * 50)
  camera.up.copy(up)
  const side = Math.abs(up.x) < 0.9 ? new Vector3(1, 0, 0) : new Vector3(0, 0, 1)
  const ahead = new Vector3().crossVectors(side, up).normalize()
  camera.position.copy(centre).addScaledVector(ahead, data.radius * 3.4).addScaledVector(up, data.radius * 0.6)
  const controls = new OrbitControls(camera, renderer.domElement)
  controls.target.copy(centre)
  controls.update()
  const cut = document.getElementById('cut'), line = document.getElementById('line')
  let due = true
  const draw = () => { due = true }
  const scenes = data.kind === 'splats' ? splatScenes() : ['before', 'after'].map((w) => meshScene(w, draw))
  controls.addEventListener('change', draw)
  cut.addEventListener('input', draw)
  const resize = () => {
    renderer.setPixelRatio(Math.min(devicePixelRatio, 2))
    renderer.setSize(innerWidth, innerHeight)
    camera.aspect = innerWidth / innerHeight
    camera.updateProjectionMatrix()
    due = true
  }
  addEventListener('resize', resize)
  resize()
  renderer.setAnimationLoop(() => {
    if (!due) return
    due = false
    const width = innerWidth, height = innerHeight, at = Math.round(width * cut.value)
    line.style.left = `${at}px`
    const ratio = renderer.getPixelRatio()
    const focal = (height * ratio) / 2 / Math.tan((camera.fov * Math.PI) / 360)
    camera.updateMatrixWorld()
    const within = (left, right) => {
      if (!fine) return renderer.setScissor(left, 0, right - left, height)
      fine.target.scissor.set(left * ratio, 0, (right - left) * ratio, height * ratio)
      renderer.setRenderTarget(fine.target)
    }
    if (fine) fine.target.setSize(width * ratio, height * ratio)
    renderer.setClearColor(paper)  // it is turned into sRGB only while the canvas is drawn on
    renderer.setScissorTest(true)
    within(0, width)
    renderer.clear()
    scenes.forEach((one, i) => {
      one.sort(camera)
      if (one.size) one.size(width * ratio, height * ratio, focal)
      within(i ? at : 0, i ? width : at)
      if (i ? at < width : at > 0) renderer.render(one.scene, camera)
    })
    if (fine) {
      renderer.setRenderTarget(null)
      renderer.setScissor(0, 0, width, height)
      renderer.render(fine.copy, camera)
    }
    document.body.dataset.drawn = '1'
  })
} catch (error) {
  document.getElementById('fault').textContent = `This browser cannot show it: ${error.message}`
}
