// Part of attention, see src/ops/attention.rs: parameters, tensors, masks.
//
// Queries, keys and values are strips of columns, at `at_*` of rows that are `pitch_*` apart, and so are their gradients;
// what is as wide as the result has all heads side by side.
//% include "common.wgsl"

struct Params {
    samples: u32,
    heads: u32,
    length: u32,
    // Columns of a head.
    width: u32,
    pitch_q: u32,
    at_q: u32,
    pitch_k: u32,
    at_k: u32,
    pitch_v: u32,
    at_v: u32,
    pitch_dq: u32,
    at_dq: u32,
    pitch_dk: u32,
    at_dk: u32,
    pitch_dv: u32,
    at_dv: u32,
    // Factor on the scores, and that times log2(e): exponentials are powers of two here.
    scale: f32,
    scale_log2: f32,
    stream: u32,
    drop: f32,
    keep_scale: f32,
    stride_qkv: u32,
    stride_error: u32,
    stride_attended: u32,
    stride_row_stats: u32,
    stride_row_dots: u32,
    stride_out: u32,
    stride_stats: u32,
    stride_dots: u32,
    stride_gradient: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> qkv: array<f32>;
@group(1) @binding(2) var<storage, read> error: array<f32>;
@group(1) @binding(3) var<storage, read> attended: array<f32>;
@group(1) @binding(4) var<storage, read> row_stats: array<f32>;
@group(1) @binding(5) var<storage, read> row_dots: array<f32>;
@group(1) @binding(6) var<storage, read_write> out: array<f32>;
@group(1) @binding(7) var<storage, read_write> stats: array<f32>;
@group(1) @binding(8) var<storage, read_write> dots: array<f32>;
@group(1) @binding(9) var<storage, read_write> gradient: array<f32>;

// The same where heads, pitches and columns are whole quads.
@group(1) @binding(1) var<storage, read> qkv_quads: array<vec4<f32>>;
@group(1) @binding(2) var<storage, read> error_quads: array<vec4<f32>>;
@group(1) @binding(3) var<storage, read> attended_quads: array<vec4<f32>>;
@group(1) @binding(6) var<storage, read_write> out_quads: array<vec4<f32>>;
@group(1) @binding(9) var<storage, read_write> gradient_quads: array<vec4<f32>>;

override causal: bool = false;
override has_dropout: bool = false;

const LOG2_E = 1.44269504;
const LN_2 = 0.69314718;
// In place of minus infinity, which compilers may assume away.
const LOWEST = -3.0e38;

// Of a workgroup: sample, head, and the first position of its block.
struct Task {
    replica: u32,
    sample: u32,
    head: u32,
    first: u32,
}

// Blocks of a head follow each other, so that its rows stay in the cache. Workgroups that fill up the grid get a block past the
// last position of the first sample.
fn task(group: vec3<u32>, groups: vec3<u32>, block: u32) -> Task {
    let blocks = (params.length + block - 1u) / block;
    let index = linear_group(group, groups);
    let head = index / blocks;
    let first = index % blocks * block;
    if head >= params.samples * params.heads {
        return Task(group.z, 0u, 0u, params.length);
    }
    return Task(group.z, head / params.heads, head % params.heads, first);
}

// First element of a head's part of a row.
//% for name, stride in [("q", "qkv"), ("k", "qkv"), ("v", "qkv"), ("dq", "gradient"), ("dk", "gradient"), ("dv", "gradient")]
fn base_{{ name }}(here: Task) -> u32 {
    let row = here.sample * params.length;
    return here.replica * params.stride_{{ stride }} + row * params.pitch_{{ name }} + params.at_{{ name }} + here.head * params.width;
}

//% endfor
//% for name in ["out", "error", "attended"]
fn base_{{ name }}(here: Task) -> u32 {
    let row = here.sample * params.length;
    return here.replica * params.stride_{{ name }} + (row * params.heads + here.head) * params.width;
}

//% endfor
// Place of a position's statistic, in what is rows by heads.
fn statistic(here: Task, position: u32) -> u32 {
    return (here.sample * params.length + position) * params.heads + here.head;
}

// Whether a query sees a key. Of both only the one that is not the lane's own may lie past the last position: what own ones
// past it compute is not stored.
fn sees(query: u32, key: u32) -> bool {
    return key < params.length && (!causal || key <= query);
}

fn is_seen(key: u32, query: u32) -> bool {
    return query < params.length && (!causal || key <= query);
}

// What dropout multiplies a probability by.
fn kept(here: Task, query: u32, key: u32) -> f32 {
    let row = (here.sample * params.heads + here.head) * params.length + query;
    let draw = unit(pcg4d(vec4<u32>(row * params.length + key, params.stream, now.step, now.replicas[here.replica].seed)).x);
    return select(0.0, params.keep_scale, draw >= params.drop);
}

//% set wide = "params.heads * params.width"
//% for quads in ["", "_quads"]
//% for name, tensor, pitch in [("q", "qkv", "params.pitch_q"), ("k", "qkv", "params.pitch_k"), ("v", "qkv", "params.pitch_v"), ("error", "error", wide), ("attended", "attended", wide)]
// Four columns of a position, zeros past the head; positions past the end repeat the last one.
fn {{ name }}_at{{ quads }}(base: u32, position: u32, col: u32) -> vec4<f32> {
//% if quads
    let at = base + min(position, params.length - 1u) * {{ pitch }} + min(col, params.width - 4u);
    return select(vec4<f32>(), {{ tensor }}_quads[at / 4u], col < params.width);
//% else
    let row = base + min(position, params.length - 1u) * {{ pitch }};
    let cols = col + vec4<u32>(0u, 1u, 2u, 3u);
    let at = row + min(cols, vec4<u32>(params.width - 1u));
    let quad = vec4<f32>({{ tensor }}[at.x], {{ tensor }}[at.y], {{ tensor }}[at.z], {{ tensor }}[at.w]);
    return select(vec4<f32>(), quad, cols < vec4<u32>(params.width));
//% endif
}

//% endfor
//% for name, tensor, pitch in [("out", "out", wide), ("dq", "gradient", "params.pitch_dq"), ("dk", "gradient", "params.pitch_dk"), ("dv", "gradient", "params.pitch_dv")]
// Of a position that there is.
fn store_{{ name }}{{ quads }}(base: u32, position: u32, col: u32, quad: vec4<f32>) {
    if col >= params.width {
        return;
    }
    let at = base + position * {{ pitch }} + col;
//% if quads
    {{ tensor }}_quads[at / 4u] = quad;
//% else
    let left = params.width - col;
    {{ tensor }}[at] = quad.x;
//% for i in range(1, 4)
    if left > {{ i }}u {
        {{ tensor }}[at + {{ i }}u] = quad.{{ "xyzw"[i] }};
    }
//% endfor
//% endif
}

//% endfor
//% endfor
