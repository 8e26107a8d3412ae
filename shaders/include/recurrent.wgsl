// Part of the recurrences, see src/ops/recurrent.rs: parameters, tensors, and what a cell makes of one unit's sums.
//% include "common.wgsl"

struct Params {
    samples: u32,
    // steps of a sequence, and those that this dispatch takes: from `first` on, on the way back from it down
    length: u32,
    first: u32,
    steps: u32,
    // units, gates of all of them, and what each keeps
    width: u32,
    gates: u32,
    kept: u32,
    rank: u32,
    // tiles of units, of which a workgroup takes so many
    tiles: u32,
    together: u32,
    window: u32,
    bound: f32,
    stride_a: u32,
    stride_weight: u32,
    stride_bias: u32,
    stride_out: u32,
    stride_saved: u32,
    stride_error: u32,
    stride_kept: u32,
    stride_p: u32,
    stride_q: u32,
    stride_y: u32,
    stride_gates: u32,
    stride_hidden: u32,
    stride_carried: u32,
}

const RNN = 0u;
const GRU = 1u;
const LSTM = 2u;

@group(1) @binding(0) var<uniform> params: Params;

override cell: u32 = RNN;

// Where a workgroup works: samples from `sample` on, and tiles of units.
struct Place {
    sample: u32,
    begin: u32,
    end: u32,
}

fn place(group: vec3<u32>, groups: vec3<u32>, samples: u32) -> Place {
    let shares = (params.tiles + params.together - 1u) / params.together;
    let which = linear_group(group, groups);
    let begin = which % shares * params.together;
    return Place(which / shares * samples, begin, min(begin + params.together, params.tiles));
}

fn sigmoid(x: f32) -> f32 {
    return 1.0 / (1.0 + exp(-x));
}

// ---- forward ----

@group(1) @binding(1) var<storage, read> a: array<f32>;
@group(1) @binding(2) var<storage, read> weight: array<f32>;
@group(1) @binding(3) var<storage, read> bias: array<f32>;
@group(1) @binding(4) var<storage, read_write> out: array<f32>;
@group(1) @binding(5) var<storage, read_write> saved: array<f32>;

// The state of a unit, from the products `s` of the state before with its gates' weights.
fn advance(replica: u32, sample: u32, step: u32, unit: u32, s: vec4<f32>) {
    let row = sample * params.length + step;
    let at = replica * params.stride_out + row * params.width + unit;
    let at_a = replica * params.stride_a + row * params.gates + unit;
    let at_bias = replica * params.stride_bias + unit;
    let keep = replica * params.stride_saved + row * params.kept + unit;
    let width = params.width;
    switch cell {
        case RNN: {
            out[at] = hyperbolic_tangent(a[at_a] + (s.x + bias[at_bias]));
        }
        case GRU: {
            var before = 0.0;
            if step > 0u {
                before = out[at - width];
            }
            let r = sigmoid(a[at_a] + (s.x + bias[at_bias]));
            let z = sigmoid(a[at_a + width] + (s.y + bias[at_bias + width]));
            let inner = s.z + bias[at_bias + 2u * width];
            let n = hyperbolic_tangent(a[at_a + 2u * width] + r * inner);
            let more = before - n;
            out[at] = n + z * more;
            saved[keep] = r;
            saved[keep + width] = z;
            saved[keep + 2u * width] = n;
            saved[keep + 3u * width] = inner;
            saved[keep + 4u * width] = more;
        }
        default: {
            var memory = 0.0;
            if step > 0u {
                memory = saved[keep + 4u * width - params.kept];
            }
            let i = sigmoid(a[at_a] + (s.x + bias[at_bias]));
            let f = sigmoid(a[at_a + width] + (s.y + bias[at_bias + width]));
            let g = hyperbolic_tangent(a[at_a + 2u * width] + (s.z + bias[at_bias + 2u * width]));
            let o = sigmoid(a[at_a + 3u * width] + (s.w + bias[at_bias + 3u * width]));
            let c = f * memory + i * g;
            out[at] = o * hyperbolic_tangent(c);
            saved[keep] = i;
            saved[keep + width] = f;
            saved[keep + 2u * width] = g;
            saved[keep + 3u * width] = o;
            saved[keep + 4u * width] = c;
        }
    }
}

// ---- back ----

@group(1) @binding(6) var<storage, read> error: array<f32>;
@group(1) @binding(7) var<storage, read> kept: array<f32>;
@group(1) @binding(8) var<storage, read> p: array<f32>;
@group(1) @binding(9) var<storage, read> q: array<f32>;
@group(1) @binding(10) var<storage, read_write> y: array<f32>;
@group(1) @binding(11) var<storage, read_write> gates: array<f32>;
@group(1) @binding(12) var<storage, read_write> hidden: array<f32>;
@group(1) @binding(13) var<storage, read_write> carried: array<f32>;

override has_bound: bool = false;

// An error of the gates that goes through the weight.
fn sent(at: u32) -> f32 {
    if cell == GRU {
        return hidden[at];
    }
    return gates[at];
}

// Whether errors of the step behind reach this one.
fn is_reached(step: u32) -> bool {
    let remaining = params.length - 1u - step;
    return remaining > 0u && (params.window == 0u || remaining % params.window > 0u);
}

// The errors of a unit's gates, from what has passed the weight from the step behind.
fn retreat(replica: u32, sample: u32, step: u32, unit: u32, passed: f32) {
    let width = params.width;
    let row = sample * params.length + step;
    let keep = replica * params.stride_kept + row * params.kept + unit;
    let carry = replica * params.stride_carried + sample * width + unit;
    let at = replica * params.stride_gates + row * params.gates + unit;
    let reached = is_reached(step);
    var total = error[replica * params.stride_error + row * width + unit];
    if reached {
        total += select(passed, clamp(passed, -params.bound, params.bound), has_bound);
    }
    switch cell {
        case RNN: {
            let state = kept[keep];
            gates[at] = total * (1.0 - state * state);
        }
        case GRU: {
            let r = kept[keep];
            let z = kept[keep + width];
            let n = kept[keep + 2u * width];
            if reached {
                total += carried[carry];
            }
            let of_n = total * (1.0 - z) * (1.0 - n * n);
            let of_r = of_n * kept[keep + 3u * width] * r * (1.0 - r);
            let of_z = total * kept[keep + 4u * width] * z * (1.0 - z);
            let at_hidden = replica * params.stride_hidden + row * params.gates + unit;
            gates[at] = of_r;
            gates[at + width] = of_z;
            gates[at + 2u * width] = of_n;
            hidden[at_hidden] = of_r;
            hidden[at_hidden + width] = of_z;
            hidden[at_hidden + 2u * width] = of_n * r;
            carried[carry] = total * z;
        }
        default: {
            let i = kept[keep];
            let f = kept[keep + width];
            let g = kept[keep + 2u * width];
            let o = kept[keep + 3u * width];
            let squashed = hyperbolic_tangent(kept[keep + 4u * width]);
            var memory = 0.0;
            if step > 0u {
                memory = kept[keep + 4u * width - params.kept];
            }
            var of_c = total * o * (1.0 - squashed * squashed);
            if reached {
                of_c += carried[carry];
            }
            gates[at] = of_c * g * i * (1.0 - i);
            gates[at + width] = of_c * memory * f * (1.0 - f);
            gates[at + 2u * width] = of_c * i * (1.0 - g * g);
            gates[at + 3u * width] = total * squashed * o * (1.0 - o);
            carried[carry] = of_c * f;
        }
    }
}
