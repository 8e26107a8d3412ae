// Batch norm; see src/ops/normalise.rs.
//% include "common.wgsl"

struct Params {
    rows: u32,
    cols: u32,
    epsilon: f32,
    momentum: f32,
    stride_x: u32,
    stride_error: u32,
    stride_moments: u32,
    stride_gamma: u32,
    stride_beta: u32,
    stride_sum_gamma: u32,
    stride_sum_beta: u32,
    stride_fault: u32,
    stride_out: u32,
    stride_running: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> x: array<f32>;
@group(1) @binding(2) var<storage, read> error: array<f32>;
@group(1) @binding(3) var<storage, read> moments: array<f32>;
@group(1) @binding(4) var<storage, read> gamma: array<f32>;
@group(1) @binding(5) var<storage, read> beta: array<f32>;
@group(1) @binding(6) var<storage, read> sum_gamma: array<f32>;
@group(1) @binding(7) var<storage, read> sum_beta: array<f32>;
@group(1) @binding(8) var<storage, read> fault: array<u32>;
@group(1) @binding(9) var<storage, read_write> out: array<f32>;
@group(1) @binding(10) var<storage, read_write> running: array<f32>;

// The same where rows are whole quads.
@group(1) @binding(1) var<storage, read> x_quads: array<vec4<f32>>;
@group(1) @binding(2) var<storage, read> error_quads: array<vec4<f32>>;
@group(1) @binding(3) var<storage, read> moments_quads: array<vec4<f32>>;
@group(1) @binding(4) var<storage, read> gamma_quads: array<vec4<f32>>;
@group(1) @binding(5) var<storage, read> beta_quads: array<vec4<f32>>;
@group(1) @binding(6) var<storage, read> sum_gamma_quads: array<vec4<f32>>;
@group(1) @binding(7) var<storage, read> sum_beta_quads: array<vec4<f32>>;
@group(1) @binding(9) var<storage, read_write> out_quads: array<vec4<f32>>;

override activation: u32 = 0u;

// An invocation computes four rows of a column (or of four neighbouring ones): what it needs of the column is read once.
const ROWS = 4u;

//% for quads, each in [("", 1), ("_quads", 4)]
@compute @workgroup_size(256)
fn forward{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, groups) * 256u + lane;
    let pitch = params.cols / {{ each }}u;
    let first = i / pitch * ROWS;
    if first >= params.rows {
        return;
    }
    let col = i % pitch;
    let at = group.z * params.stride_moments / {{ each }}u + col;
    let mean = moments{{ quads }}[at];
    let deviation = sqrt(moments{{ quads }}[at + pitch] + params.epsilon);
    let scale = gamma{{ quads }}[group.z * params.stride_gamma / {{ each }}u + col];
    let shift = beta{{ quads }}[group.z * params.stride_beta / {{ each }}u + col];
    let base = group.z * params.stride_x / {{ each }}u + col;
    let base_out = group.z * params.stride_out / {{ each }}u + col;
    for (var row = first; row < min(first + ROWS, params.rows); row++) {
        let normal = (x{{ quads }}[base + row * pitch] - mean) / deviation;
        out{{ quads }}[base_out + row * pitch] = activate{{ "_quad" if quads }}(activation, normal * scale + shift);
    }
}

@compute @workgroup_size(256)
fn backward{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, groups) * 256u + lane;
    let pitch = params.cols / {{ each }}u;
    let first = i / pitch * ROWS;
    if first >= params.rows {
        return;
    }
    let col = i % pitch;
    let at = group.z * params.stride_moments / {{ each }}u + col;
    let mean = moments{{ quads }}[at];
    let inverse = 1.0 / sqrt(moments{{ quads }}[at + pitch] + params.epsilon);
    let scale = gamma{{ quads }}[group.z * params.stride_gamma / {{ each }}u + col] * inverse;
    let mean_error = sum_beta{{ quads }}[group.z * params.stride_sum_beta / {{ each }}u + col] / f32(params.rows);
    let slope = sum_gamma{{ quads }}[group.z * params.stride_sum_gamma / {{ each }}u + col] / f32(params.rows);
    let base = group.z * params.stride_x / {{ each }}u + col;
    let base_error = group.z * params.stride_error / {{ each }}u + col;
    let base_out = group.z * params.stride_out / {{ each }}u + col;
    for (var row = first; row < min(first + ROWS, params.rows); row++) {
        let normal = (x{{ quads }}[base + row * pitch] - mean) * inverse;
        let e = error{{ quads }}[base_error + row * pitch];
        out{{ quads }}[base_out + row * pitch] = scale * (e - mean_error - normal * slope);
    }
}

//% endfor
// rows is the batch's here; the variance becomes unbiased.
@compute @workgroup_size(256)
fn track(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, groups) * 256u + lane;
    if i >= 2u * params.cols || fault[group.z * params.stride_fault] != 0u {
        return;
    }
    var value = moments[group.z * params.stride_moments + i];
    if i >= params.cols {
        value *= f32(params.rows) / f32(params.rows - 1u);
    }
    let at = group.z * params.stride_running + i;
    running[at] += params.momentum * (value - running[at]);
}
