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

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, groups) * 256u + lane;
    if i >= params.rows * params.cols {
        return;
    }
    let col = i % params.cols;
    let mean = moments[group.z * params.stride_moments + col];
    let variance = moments[group.z * params.stride_moments + params.cols + col];
    let normal = (x[group.z * params.stride_x + i] - mean) / sqrt(variance + params.epsilon);
    out[group.z * params.stride_out + i] =
        normal * gamma[group.z * params.stride_gamma + col] + beta[group.z * params.stride_beta + col];
}

@compute @workgroup_size(256)
fn backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, groups) * 256u + lane;
    if i >= params.rows * params.cols {
        return;
    }
    let col = i % params.cols;
    let mean = moments[group.z * params.stride_moments + col];
    let variance = moments[group.z * params.stride_moments + params.cols + col];
    let inverse = 1.0 / sqrt(variance + params.epsilon);
    let normal = (x[group.z * params.stride_x + i] - mean) * inverse;
    let mean_error = sum_beta[group.z * params.stride_sum_beta + col] / f32(params.rows);
    let slope = sum_gamma[group.z * params.stride_sum_gamma + col] / f32(params.rows);
    out[group.z * params.stride_out + i] = gamma[group.z * params.stride_gamma + col] * inverse
        * (error[group.z * params.stride_error + i] - mean_error - normal * slope);
}

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
