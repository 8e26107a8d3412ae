// A batch from the bytes of the data set; see src/ops/gather.rs.
//% include "common.wgsl"

struct Params {
    // images in this shard, and the index of its first
    images: u32,
    first: u32,
    // samples
    rows: u32,
    // samples of the step's batch before the first one here
    skip: u32,
    // labels of a sample
    targets: u32,
    // places that a byte may have in a one-hot row
    values: u32,
    height: u32,
    width: u32,
    channels: u32,
    padding: u32,
    cutout: u32,
    // radians
    rotation: f32,
    // AutoAugment::turn, against the clock (left) and with it
    turn_cosine: i32,
    turn_sine: i32,
    left_x: i32,
    left_y: i32,
    right_x: i32,
    right_y: i32,
    scale0: f32,
    scale1: f32,
    scale2: f32,
    scale3: f32,
    shift0: f32,
    shift1: f32,
    shift2: f32,
    shift3: f32,
    stride_permutation: u32,
    stride_out: u32,
    stride_labels: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> images: array<u32>;
@group(1) @binding(2) var<storage, read> classes: array<u32>;
@group(1) @binding(3) var<storage, read> permutation: array<u32>;
@group(1) @binding(4) var<storage, read_write> out: array<f32>;
@group(1) @binding(5) var<storage, read_write> labels: array<u32>;
@group(1) @binding(4) var<storage, read_write> out_quads: array<vec4<f32>>;

override flip: bool = false;
override rotate: bool = false;
override crop: bool = false;
override cut: bool = false;

const AUGMENT_STREAM = 0xA060000u;
const ABSENT = 0xffffffffu;

//% include "autoaugment.wgsl"

// Value of one pixel, black outside the image.
fn pixel(image: u32, y: i32, x: i32, channel: u32) -> f32 {
    if y < 0 || x < 0 || y >= i32(params.height) || x >= i32(params.width) {
        return 0.0;
    }
    let byte = ((image * params.height + u32(y)) * params.width + u32(x)) * params.channels + channel;
    return f32((images[byte / 4u] >> (byte % 4u * 8u)) & 255u);
}

// WGSL promises sin and cos only to 2^-11. Taylor series of an eighth of the angle, doubled three times: within 1e-6
// over +-pi.
fn sine_cosine(angle: f32) -> vec2<f32> {
    let t = angle / 8.0;
    let u = t * t;
    var s = t * (1.0 - u / 6.0 * (1.0 - u / 20.0 * (1.0 - u / 42.0)));
    // 1 - cos, which doubles without losing digits
    var c = u / 2.0 * (1.0 - u / 12.0 * (1.0 - u / 30.0));
    for (var i = 0; i < 3; i++) {
        let next = 2.0 * s * (1.0 - c);
        c = 2.0 * s * s;
        s = next;
    }
    return vec2<f32>(s, 1.0 - c);
}

fn sample(image: u32, out_y: u32, out_x: u32, channel: u32, draw: vec4<u32>) -> f32 {
    var y = i32(out_y);
    var x = i32(out_x);
    if crop {
        let span = 2u * params.padding + 1u;
        y += i32(draw.z % span) - i32(params.padding);
        x += i32((draw.z >> 16u) % span) - i32(params.padding);
    }
    if flip && (draw.x >> 31u) == 1u {
        x = i32(params.width) - 1 - x;
    }
    if !rotate {
        return pixel(image, y, x, channel);
    }
    let turn = sine_cosine(params.rotation * (2.0 * unit(draw.y) - 1.0));
    let centre = vec2<f32>(f32(params.height - 1u), f32(params.width - 1u)) / 2.0;
    let from_centre = vec2<f32>(f32(y), f32(x)) - centre;
    let source = centre + vec2<f32>(
        turn.y * from_centre.x + turn.x * from_centre.y,
        turn.y * from_centre.y - turn.x * from_centre.x,
    );
    let corner = floor(source);
    let part = source - corner;
    let cy = i32(corner.x);
    let cx = i32(corner.y);
    let upper = mix(pixel(image, cy, cx, channel), pixel(image, cy, cx + 1, channel), part.y);
    let lower = mix(pixel(image, cy + 1, cx, channel), pixel(image, cy + 1, cx + 1, channel), part.y);
    return mix(upper, lower, part.x);
}

// Whether a pixel lies in the square that is cut out. Above it and left of it the differences wrap around.
fn is_cut(y: u32, x: u32, draw: vec4<u32>) -> bool {
    let centre = vec2<u32>(draw.w % params.height, (draw.w >> 16u) % params.width);
    let inside = vec2<u32>(y, x) + params.cutout / 2u - centre;
    return inside.x < params.cutout && inside.y < params.cutout;
}

// The image of a row of the batch; `images` or more if another shard holds it. Below the shard's first image the
// difference wraps around.
fn image_of(replica: u32, row: u32) -> u32 {
    return permutation[replica * params.stride_permutation + now.cursor + params.skip + row] - params.first;
}

fn scale_of(channel: u32) -> f32 {
    return vec4<f32>(params.scale0, params.scale1, params.scale2, params.scale3)[channel];
}

fn shift_of(channel: u32) -> f32 {
    return vec4<f32>(params.shift0, params.shift1, params.shift2, params.shift3)[channel];
}

// Labels of a sample, by `lanes` invocations together; an image of `params.images` is absent.
fn label(replica: u32, row: u32, image: u32, lane: u32, lanes: u32) {
    let base = replica * params.stride_labels + row * params.targets;
    for (var i = lane; i < params.targets; i += lanes) {
        if image == params.images {
            labels[base + i] = ABSENT;
        } else {
            labels[base + i] = classes[image * params.targets + i];
        }
    }
}

@compute @workgroup_size(256)
fn plain(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let pixels = params.height * params.width * params.channels;
    let i = linear_group(group, groups) * 256u + lane;
    if i >= params.rows * pixels {
        return;
    }
    let row = i / pixels;
    let at = i % pixels;
    if params.skip + row >= now.active_rows {
        out[replica * params.stride_out + i] = 0.0;
        label(replica, row, params.images, at, pixels);
        return;
    }
    let image = image_of(replica, row);
    if image >= params.images {
        return;
    }
    let channel = at % params.channels;
    let place = at / params.channels;
    let y = place / params.width;
    let x = place % params.width;
    let draw = pcg4d(vec4<u32>(params.skip + row, AUGMENT_STREAM, now.step, now.replicas[replica].seed));
    var value = sample(image, y, x, channel, draw) * scale_of(channel) + shift_of(channel);
    if cut && is_cut(y, x, draw) {
        value = 0.0;
    }
    out[replica * params.stride_out + i] = value;
    label(replica, row, image, at, pixels);
}

// A byte as a row of zeros but for a one.
@compute @workgroup_size(256)
fn one_hot_bytes(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let bytes = params.height * params.width * params.channels;
    let each = bytes * params.values;
    let i = linear_group(group, groups) * 256u + lane;
    if i >= params.rows * each {
        return;
    }
    let row = i / each;
    let at = i % each;
    if params.skip + row >= now.active_rows {
        out[replica * params.stride_out + i] = 0.0;
        label(replica, row, params.images, at, each);
        return;
    }
    let image = image_of(replica, row);
    if image >= params.images {
        return;
    }
    let byte = image * bytes + at / params.values;
    let value = (images[byte / 4u] >> (byte % 4u * 8u)) & 255u;
    out[replica * params.stride_out + i] = select(0.0, 1.0, value == at % params.values);
    label(replica, row, image, at, each);
}

// Images as they are, four bytes an invocation: whole words, since a row of images is.
@compute @workgroup_size(256)
fn plain_quads(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let quads = params.height * params.width * params.channels / 4u;
    let i = linear_group(group, groups) * 256u + lane;
    if i >= params.rows * quads {
        return;
    }
    let row = i / quads;
    let at = i - row * quads;
    if params.skip + row >= now.active_rows {
        out_quads[replica * params.stride_out / 4u + i] = vec4<f32>();
        label(replica, row, params.images, at, quads);
        return;
    }
    let image = image_of(replica, row);
    if image >= params.images {
        return;
    }
    let word = images[image * quads + at];
    var value = vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u));
    if params.channels == 1u {
        value = value * params.scale0 + params.shift0;
    } else {
        let channel = (at * 4u + vec4<u32>(0u, 1u, 2u, 3u)) % params.channels;
//% for e in "xyzw"
        value.{{ e }} = value.{{ e }} * scale_of(channel.{{ e }}) + shift_of(channel.{{ e }});
//% endfor
    }
    out_quads[replica * params.stride_out / 4u + i] = value;
    label(replica, row, image, at, quads);
}

// An image changed by a policy, one a workgroup: its bytes are moved by flip and crop into workgroup memory and changed there.
@compute @workgroup_size(256)
fn autoaugment(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let pixels = params.height * params.width;
    let row = linear_group(group, groups);
    if row >= params.rows {
        return;
    }
    let base = replica * params.stride_out + row * pixels * 3u;
    if params.skip + row >= now.active_rows {
        for (var i = lane; i < pixels * 3u; i += 256u) {
            out[base + i] = 0.0;
        }
        label(replica, row, params.images, lane, 256u);
        return;
    }
    let image = image_of(replica, row);
    if image >= params.images {
        return;
    }
    let seed = now.replicas[replica].seed;
    let draw = pcg4d(vec4<u32>(params.skip + row, AUGMENT_STREAM, now.step, seed));
    if lane < 2u {
        chosen[lane] = choose(lane, params.skip + row, seed);
    }
    for (var i = lane; i < pixels; i += 256u) {
        let x = i % params.width;
        let y = i / params.width;
        picture[i] = joined(vec3<u32>(
            u32(sample(image, y, x, 0u, draw)),
            u32(sample(image, y, x, 1u, draw)),
            u32(sample(image, y, x, 2u, draw)),
        ));
    }
    workgroupBarrier();
    for (var n = 0u; n < 2u; n++) {
        change(n, lane);
    }
    for (var i = lane; i < pixels; i += 256u) {
        let x = i % params.width;
        let y = i / params.width;
        let colour = vec3<f32>(split(picture[i]));
        let hidden = cut && is_cut(y, x, draw);
//% for e in "xyz"
        out[base + i * 3u + {{ loop.index0 }}u] =
            select(colour.{{ e }} * params.scale{{ loop.index0 }} + params.shift{{ loop.index0 }}, 0.0, hidden);
//% endfor
    }
    label(replica, row, image, lane, 256u);
}
