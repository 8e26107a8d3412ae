// Part of every shader: the step's uniform block, random numbers, activations.

struct Replica {
    // learning rate of weights and of feedback
    rate: vec2<f32>,
    // weight decay of weights and of feedback
    decay: vec2<f32>,
    seed: u32,
    unused1: u32,
    unused2: u32,
    unused3: u32,
}

struct Now {
    step: u32,
    cursor: u32,
    active_rows: u32,
    unused: u32,
    // per optimizer group: 1 - beta1^t, sqrt(1 - beta2^t)
    groups: array<vec4<f32>, 2>,
    replicas: array<Replica, 64>,
}

@group(0) @binding(0) var<uniform> now: Now;

// Workgroups are spread over x and y because one dimension holds only 65535 of them.
fn linear_group(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}

// Jarzynski and Olano, JCGT 9(3), 2020; the twin is src/ops/random.rs.
fn pcg4d(key: vec4<u32>) -> vec4<u32> {
    var v = key * 1664525u + 1013904223u;
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    v ^= v >> vec4<u32>(16u);
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    return v;
}

fn unit(bits: u32) -> f32 {
    return f32(bits >> 8u) * (1.0 / 16777216.0);
}

// By bits: compilers may assume that comparisons never see a NaN.
fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

const NONE = 0u;
const RELU = 1u;
const GELU = 2u;
const TANH = 3u;

// Abramowitz and Stegun 7.1.26, |error| <= 1.5e-7; `bell` is exp(-x * x).
fn erf(x: f32, bell: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.3275911 * abs(x));
    let tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return sign(x) * (1.0 - tail * bell);
}

// Near zero by its series, whose next term is below rounding: the quotient would lose digits there.
fn hyperbolic_tangent(x: f32) -> f32 {
    let square = x * x;
    let series = x * (1.0 - square * (0.33333333 - square * (0.13333333 - square * 0.053968254)));
    let decay = exp(-2.0 * abs(x));
    return select(sign(x) * (1.0 - decay) / (1.0 + decay), series, abs(x) < 0.1);
}

fn activate(kind: u32, x: f32) -> f32 {
    switch kind {
        // Not max, which may turn a NaN into 0 and hide it from the loss.
        case RELU: { return select(x, 0.0, x < 0.0); }
        case GELU: { return 0.5 * x * (1.0 + erf(x * 0.70710678, exp(-0.5 * x * x))); }
        case TANH: { return hyperbolic_tangent(x); }
        default: { return x; }
    }
}

// f' from what the activation saves: relu and tanh their output, gelu its input.
fn derivative(kind: u32, saved: f32) -> f32 {
    switch kind {
        case RELU: { return select(0.0, 1.0, saved > 0.0); }
        case GELU: {
            let bell = exp(-0.5 * saved * saved);
            return 0.5 * (1.0 + erf(saved * 0.70710678, bell)) + saved * (0.39894228 * bell);
        }
        case TANH: { return 1.0 - saved * saved; }
        default: { return 1.0; }
    }
}

fn activate_quad(kind: u32, x: vec4<f32>) -> vec4<f32> {
    if kind == RELU {
        return select(x, vec4<f32>(), x < vec4<f32>());
    }
    return vec4<f32>(activate(kind, x.x), activate(kind, x.y), activate(kind, x.z), activate(kind, x.w));
}

fn derivative_quad(kind: u32, saved: vec4<f32>) -> vec4<f32> {
    if kind == RELU {
        return select(vec4<f32>(), vec4<f32>(1.0), saved > vec4<f32>());
    }
    return vec4<f32>(
        derivative(kind, saved.x),
        derivative(kind, saved.y),
        derivative(kind, saved.z),
        derivative(kind, saved.w),
    );
}
