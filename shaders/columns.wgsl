// Reductions over rows; see src/ops/columns.rs and NormaliseGradients in src/ops/normalise.rs.
//
// A workgroup owns 16 columns. Sixteen invocations share a column, each adds every sixteenth row, then a fixed tree
// adds the sixteen: the order never depends on timing.
//% include "common.wgsl"

struct Params {
    rows: u32,
    cols: u32,
    epsilon: f32,
    stride_x: u32,
    stride_error: u32,
    stride_moments: u32,
    stride_out: u32,
    stride_grad_gamma: u32,
    stride_grad_beta: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> x: array<f32>;
@group(1) @binding(2) var<storage, read> error: array<f32>;
@group(1) @binding(3) var<storage, read> moments: array<f32>;
@group(1) @binding(4) var<storage, read_write> out: array<f32>;
@group(1) @binding(5) var<storage, read_write> grad_gamma: array<f32>;
@group(1) @binding(6) var<storage, read_write> grad_beta: array<f32>;

var<workgroup> partial: array<vec2<f32>, 256>;

// Sum over lane.y of every column; the result is valid in all invocations of the column.
fn sum_column(lane: vec3<u32>, value: vec2<f32>) -> vec2<f32> {
    partial[lane.y * 16u + lane.x] = value;
    workgroupBarrier();
    for (var half = 8u; half > 0u; half /= 2u) {
        if lane.y < half {
            partial[lane.y * 16u + lane.x] += partial[(lane.y + half) * 16u + lane.x];
        }
        workgroupBarrier();
    }
    let total = partial[lane.x];
    workgroupBarrier();
    return total;
}

@compute @workgroup_size(16, 16)
fn sum(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let col = linear_group(group, groups) * 16u + lane.x;
    var local = 0.0;
    if col < params.cols {
        for (var row = lane.y; row < params.rows; row += 16u) {
            local += x[group.z * params.stride_x + row * params.cols + col];
        }
    }
    let total = sum_column(lane, vec2<f32>(local, 0.0));
    if lane.y == 0u && col < params.cols {
        out[group.z * params.stride_out + col] = total.x;
    }
}

@compute @workgroup_size(16, 16)
fn mean_variance(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let col = linear_group(group, groups) * 16u + lane.x;
    let base = group.z * params.stride_x + col;
    let inside = col < params.cols;
    let count = f32(params.rows);
    var local = 0.0;
    if inside {
        for (var row = lane.y; row < params.rows; row += 16u) {
            local += x[base + row * params.cols];
        }
    }
    let mean = sum_column(lane, vec2<f32>(local, 0.0)).x / count;
    local = 0.0;
    if inside {
        for (var row = lane.y; row < params.rows; row += 16u) {
            let centred = x[base + row * params.cols] - mean;
            local += centred * centred;
        }
    }
    let variance = sum_column(lane, vec2<f32>(local, 0.0)).x / count;
    if lane.y == 0u && inside {
        out[group.z * params.stride_out + col] = mean;
        out[group.z * params.stride_out + params.cols + col] = variance;
    }
}

@compute @workgroup_size(16, 16)
fn normalise_gradients(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let col = linear_group(group, groups) * 16u + lane.x;
    var local = vec2<f32>();
    if col < params.cols {
        let mean = moments[group.z * params.stride_moments + col];
        let variance = moments[group.z * params.stride_moments + params.cols + col];
        let inverse = 1.0 / sqrt(variance + params.epsilon);
        for (var row = lane.y; row < params.rows; row += 16u) {
            let at = row * params.cols + col;
            let e = error[group.z * params.stride_error + at];
            local += vec2<f32>(e * (x[group.z * params.stride_x + at] - mean) * inverse, e);
        }
    }
    let total = sum_column(lane, local);
    if lane.y == 0u && col < params.cols {
        grad_gamma[group.z * params.stride_grad_gamma + col] = total.x;
        grad_beta[group.z * params.stride_grad_beta + col] = total.y;
    }
}
