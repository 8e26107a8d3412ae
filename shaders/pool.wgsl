// Pooling, forward and backward; see src/ops/pool.rs.
//% include "common.wgsl"

struct Params {
    // Outputs of a replica (positions, where invocations go by them) and channels, in elements or quads.
    count: u32,
    channels: u32,
    image_height: u32,
    image_width: u32,
    grid_height: u32,
    grid_width: u32,
    kernel_height: u32,
    kernel_width: u32,
    // what Window calls its stride
    step_height: u32,
    step_width: u32,
    padding_height: u32,
    padding_width: u32,
    stride_x: u32,
    stride_error: u32,
    stride_won: u32,
    stride_saved: u32,
    stride_out: u32,
    stride_winners: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> x: array<f32>;
@group(1) @binding(2) var<storage, read> error: array<f32>;
@group(1) @binding(3) var<storage, read> won: array<u32>;
@group(1) @binding(4) var<storage, read_write> out: array<f32>;
@group(1) @binding(5) var<storage, read_write> winners: array<u32>;
@group(1) @binding(6) var<storage, read> saved: array<f32>;

// The same tensors where every row is whole quads.
@group(1) @binding(1) var<storage, read> x_quads: array<vec4<f32>>;
@group(1) @binding(2) var<storage, read> error_quads: array<vec4<f32>>;
@group(1) @binding(3) var<storage, read> won_quads: array<vec4<u32>>;
@group(1) @binding(4) var<storage, read_write> out_quads: array<vec4<f32>>;
@group(1) @binding(5) var<storage, read_write> winners_quads: array<vec4<u32>>;
@group(1) @binding(6) var<storage, read> saved_quads: array<vec4<f32>>;

// The activation whose derivative follows on the way back.
override gate: u32 = 0u;

// What one output is made of: a rectangle of pixels (of positions, on the way back) of one image.
struct Sources {
    // row of the image's first pixel
    base: u32,
    channel: u32,
    begin: vec2<u32>,
    end: vec2<u32>,
    // Forward the window's first pixel, backward the output's own, in the padded image.
    origin: vec2<u32>,
}

// The pixels below the window of output i.
fn window_of(i: u32) -> Sources {
    let image = vec2<u32>(params.image_height, params.image_width);
    let padding = vec2<u32>(params.padding_height, params.padding_width);
    let row = i / params.channels;
    let place = vec2<u32>(row / params.grid_width % params.grid_height, row % params.grid_width);
    var seen: Sources;
    seen.base = row / (params.grid_height * params.grid_width) * image.x * image.y;
    seen.channel = i % params.channels;
    seen.origin = place * vec2<u32>(params.step_height, params.step_width);
    seen.begin = max(seen.origin, padding) - padding;
    let kernel = vec2<u32>(params.kernel_height, params.kernel_width);
    seen.end = min(seen.origin + kernel, image + padding) - padding;
    return seen;
}

// The positions whose windows see the pixel of output i.
fn windows_over(i: u32) -> Sources {
    let grid = vec2<u32>(params.grid_height, params.grid_width);
    let kernel = vec2<u32>(params.kernel_height, params.kernel_width);
    let step = vec2<u32>(params.step_height, params.step_width);
    let row = i / params.channels;
    let place = vec2<u32>(row / params.image_width % params.image_height, row % params.image_width);
    var seen: Sources;
    seen.base = row / (params.image_height * params.image_width) * grid.x * grid.y;
    seen.channel = i % params.channels;
    seen.origin = place + vec2<u32>(params.padding_height, params.padding_width);
    seen.begin = (max(seen.origin + 1u, kernel) - kernel + step - 1u) / step;
    seen.end = min(seen.origin / step + 1u, grid);
    return seen;
}

//% for quads, each in [("", 1), ("_quads", 4)]
//% set float, word, truth = ("vec4<f32>", "vec4<u32>", "vec4<bool>") if quads else ("f32", "u32", "bool")
// By bits: compilers may assume that comparisons never see a NaN.
fn is_nan{{ quads }}(value: {{ float }}) -> {{ truth }} {
    return (bitcast<{{ word }}>(value) & {{ word }}(0x7fffffffu)) > {{ word }}(0x7f800000u);
}

fn gated{{ quads }}(replica: u32, i: u32, sum: {{ float }}) -> {{ float }} {
    if gate == NONE {
        return sum;
    }
    return sum * derivative{{ "_quad" if quads }}(gate, saved{{ quads }}[replica * params.stride_saved / {{ each }}u + i]);
}

@compute @workgroup_size(256)
fn max_forward{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, groups) * 256u + lane;
    if i >= params.count {
        return;
    }
    let seen = window_of(i);
    let base = group.z * params.stride_x / {{ each }}u + seen.channel;
    let padding = vec2<u32>(params.padding_height, params.padding_width);
    var best = {{ float }}();
    var winner = {{ word }}();
    var is_first = true;
    for (var y = seen.begin.x; y < seen.end.x; y++) {
        var tap = (y + padding.x - seen.origin.x) * params.kernel_width + seen.begin.y + padding.y - seen.origin.y;
        for (var col = seen.begin.y; col < seen.end.y; col++) {
            let value = x{{ quads }}[base + (seen.base + y * params.image_width + col) * params.channels];
            let is_better = {{ truth }}(is_first) | is_nan{{ quads }}(value)
                | (!is_nan{{ quads }}(best) & (value > best));
            best = select(best, value, is_better);
            winner = select(winner, {{ word }}(tap), is_better);
            is_first = false;
            tap++;
        }
    }
    out{{ quads }}[group.z * params.stride_out / {{ each }}u + i] = best;
    winners{{ quads }}[group.z * params.stride_winners / {{ each }}u + i] = winner;
}

@compute @workgroup_size(256)
fn max_backward{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, groups) * 256u + lane;
    if i >= params.count {
        return;
    }
    let seen = windows_over(i);
    let base_error = group.z * params.stride_error / {{ each }}u;
    let base_won = group.z * params.stride_won / {{ each }}u;
    var sum = {{ float }}();
    for (var y = seen.begin.x; y < seen.end.x; y++) {
        for (var col = seen.begin.y; col < seen.end.y; col++) {
            let at = (seen.base + y * params.grid_width + col) * params.channels + seen.channel;
            let tap = (seen.origin.x - y * params.step_height) * params.kernel_width
                + seen.origin.y - col * params.step_width;
            let is_mine = won{{ quads }}[base_won + at] == {{ word }}(tap);
            sum += select({{ float }}(), error{{ quads }}[base_error + at], is_mine);
        }
    }
    out{{ quads }}[group.z * params.stride_out / {{ each }}u + i] = gated{{ quads }}(group.z, i, sum);
}

// Where windows lie side by side and cover the image, a position's pixels are its own: one invocation writes them all.
@compute @workgroup_size(256)
fn max_backward_apart{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, groups) * 256u + lane;
    if i >= params.count {
        return;
    }
    let seen = window_of(i);
    let winner = won{{ quads }}[group.z * params.stride_won / {{ each }}u + i];
    let passed = error{{ quads }}[group.z * params.stride_error / {{ each }}u + i];
    let base_out = group.z * params.stride_out / {{ each }}u;
    var tap = 0u;
    for (var y = seen.begin.x; y < seen.end.x; y++) {
        for (var col = seen.begin.y; col < seen.end.y; col++) {
            let at = (seen.base + y * params.image_width + col) * params.channels + seen.channel;
            let mine = select({{ float }}(), passed, winner == {{ word }}(tap));
            out{{ quads }}[base_out + at] = gated{{ quads }}(group.z, at, mine);
            tap++;
        }
    }
}

//% for entry, source, over, width in [("average_forward", "x", "window_of", "image_width"), ("average_backward", "error", "windows_over", "grid_width")]
@compute @workgroup_size(256)
fn {{ entry }}{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, groups) * 256u + lane;
    if i >= params.count {
        return;
    }
    let seen = {{ over }}(i);
    let base = group.z * params.stride_{{ source }} / {{ each }}u + seen.channel;
    var sum = {{ float }}();
    for (var y = seen.begin.x; y < seen.end.x; y++) {
        for (var col = seen.begin.y; col < seen.end.y; col++) {
            sum += {{ source }}{{ quads }}[base + (seen.base + y * params.{{ width }} + col) * params.channels];
        }
    }
    let taps = f32(params.kernel_height * params.kernel_width);
    let mean = sum / taps;
    out{{ quads }}[group.z * params.stride_out / {{ each }}u + i] = {{ "gated" ~ quads ~ "(group.z, i, mean)" if source == "error" else "mean" }};
}

//% endfor
//% endfor
