// Part of what correlates y with errors and inputs, see src/ops/correlate.rs: parameters and tensors.
//% include "common.wgsl"

struct Params {
    rows: u32,
    // columns of x, of y and of input
    outputs: u32,
    rank: u32,
    inputs: u32,
    // pieces of the rows, and how long each but the last is
    parts: u32,
    depth: u32,
    stride_x: u32,
    stride_y: u32,
    stride_input: u32,
    stride_p: u32,
    stride_statistics: u32,
    stride_correlated: u32,
    stride_gradient: u32,
    stride_out: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> x: array<f32>;
@group(1) @binding(2) var<storage, read> y: array<f32>;
