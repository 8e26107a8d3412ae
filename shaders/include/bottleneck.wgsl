// Part of the fused transports y = delta p, out = epilogue(y q), see src/ops/transport.rs: parameters, tensors, epilogue.
//% include "common.wgsl"

struct Params {
    rows: u32,
    outputs: u32,
    rank: u32,
    inputs: u32,
    bound: f32,
    stride_delta: u32,
    stride_p: u32,
    stride_q: u32,
    stride_addend: u32,
    stride_saved: u32,
    stride_y: u32,
    stride_out: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> delta: array<f32>;
@group(1) @binding(2) var<storage, read> p: array<f32>;
@group(1) @binding(3) var<storage, read> q: array<f32>;
@group(1) @binding(4) var<storage, read> saved: array<f32>;
@group(1) @binding(5) var<storage, read_write> y: array<f32>;
@group(1) @binding(6) var<storage, read_write> out: array<f32>;
@group(1) @binding(7) var<storage, read> addend: array<f32>;

// The same tensors where every row is whole quads.
@group(1) @binding(1) var<storage, read> delta_quads: array<vec4<f32>>;
@group(1) @binding(3) var<storage, read> q_quads: array<vec4<f32>>;
@group(1) @binding(4) var<storage, read> saved_quads: array<vec4<f32>>;
@group(1) @binding(6) var<storage, read_write> out_quads: array<vec4<f32>>;
@group(1) @binding(7) var<storage, read> addend_quads: array<vec4<f32>>;

override has_addend: bool = false;
override has_bound: bool = false;
override gate: u32 = 0u;
// Whether tiles cover rows and columns with nothing left over; see product.wgsl.
override exact: bool = false;

// Rows of a workgroup.
const ROWS = 32u;

fn store(replica: u32, row: u32, col: u32, sum: f32) {
    if !exact && (row >= params.rows || col >= params.inputs) {
        return;
    }
    let at = row * params.inputs + col;
    var value = sum;
    if has_addend {
        value += addend[replica * params.stride_addend + at];
    }
    if has_bound {
        value = clamp(value, -params.bound, params.bound);
    }
    if gate != NONE {
        value *= derivative(gate, saved[replica * params.stride_saved + at]);
    }
    out[replica * params.stride_out + at] = value;
}

fn store_quad(replica: u32, row: u32, col: u32, sum: vec4<f32>) {
    if !exact && (row >= params.rows || col >= params.inputs) {
        return;
    }
    let at = row * params.inputs + col;
    var value = sum;
    if has_addend {
        value += addend_quads[(replica * params.stride_addend + at) / 4u];
    }
    if has_bound {
        value = clamp(value, vec4<f32>(-params.bound), vec4<f32>(params.bound));
    }
    if gate != NONE {
        value *= derivative_quad(gate, saved_quads[(replica * params.stride_saved + at) / 4u]);
    }
    out_quads[(replica * params.stride_out + at) / 4u] = value;
}
