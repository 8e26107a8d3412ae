// Reductions over rows; see src/ops/columns.rs, NormaliseGradients in src/ops/normalise.rs and LayerNormGradients in
// src/ops/layernorm.rs.
//
// A workgroup owns 16 columns (`sum_alone`: 64, or 64 quads). Sixteen invocations share a column, or 64 four neighbouring ones where rows are whole
// quads; each adds every 16th or 64th row, then a fixed tree adds theirs: the order never depends on timing.
//% include "common.wgsl"

struct Params {
    rows: u32,
    cols: u32,
    // Rows of a split, of which each has sums of its own.
    depth: u32,
    epsilon: f32,
    stride_x: u32,
    stride_error: u32,
    stride_moments: u32,
    stride_row_moments: u32,
    stride_out: u32,
    stride_grad_gamma: u32,
    stride_grad_beta: u32,
    stride_total_gamma: u32,
    stride_total_beta: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> x: array<f32>;
@group(1) @binding(2) var<storage, read> error: array<f32>;
@group(1) @binding(3) var<storage, read> moments: array<f32>;
@group(1) @binding(4) var<storage, read_write> out: array<f32>;
@group(1) @binding(5) var<storage, read_write> grad_gamma: array<f32>;
@group(1) @binding(6) var<storage, read_write> grad_beta: array<f32>;
@group(1) @binding(7) var<storage, read> row_moments: array<f32>;
@group(1) @binding(8) var<storage, read_write> total_gamma: array<f32>;
@group(1) @binding(9) var<storage, read_write> total_beta: array<f32>;

// The same where rows are whole quads.
@group(1) @binding(1) var<storage, read> x_quads: array<vec4<f32>>;
@group(1) @binding(2) var<storage, read> error_quads: array<vec4<f32>>;
@group(1) @binding(3) var<storage, read> moments_quads: array<vec4<f32>>;
@group(1) @binding(4) var<storage, read_write> out_quads: array<vec4<f32>>;
@group(1) @binding(5) var<storage, read_write> grad_gamma_quads: array<vec4<f32>>;
@group(1) @binding(6) var<storage, read_write> grad_beta_quads: array<vec4<f32>>;
@group(1) @binding(8) var<storage, read_write> total_gamma_quads: array<vec4<f32>>;
@group(1) @binding(9) var<storage, read_write> total_beta_quads: array<vec4<f32>>;

// Whether sums are added to what is there.
override accumulate: bool = false;
// Whether gradients are added to others besides.
override has_totals: bool = false;

// Sums come in pairs.
struct Pair {
    one: f32,
    two: f32,
}

struct Pair_quads {
    one: vec4<f32>,
    two: vec4<f32>,
}

//% for quads, each, across, down, real in [("", 1, 16, 16, "f32"), ("_quads", 4, 4, 64, "vec4<f32>")]
var<workgroup> partial{{ quads }}: array<Pair{{ quads }}, 256>;

// Sum over lane.y of every column; the result is valid in all invocations of the column.
fn sum_column{{ quads }}(lane: vec3<u32>, value: Pair{{ quads }}) -> Pair{{ quads }} {
    let own = lane.y * {{ across }}u + lane.x;
    partial{{ quads }}[own] = value;
    workgroupBarrier();
    for (var half = {{ down // 2 }}u; half > 0u; half /= 2u) {
        if lane.y < half {
            let other = own + half * {{ across }}u;
            partial{{ quads }}[own].one += partial{{ quads }}[other].one;
            partial{{ quads }}[own].two += partial{{ quads }}[other].two;
        }
        workgroupBarrier();
    }
    let total = partial{{ quads }}[lane.x];
    workgroupBarrier();
    return total;
}

@compute @workgroup_size({{ across }}, {{ down }})
fn sum{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let col = linear_group(group, groups) * {{ across }}u + lane.x;
    let pitch = params.cols / {{ each }}u;
    let base = group.z * params.stride_x / {{ each }}u + col;
    var local = Pair{{ quads }}();
    if col < pitch {
        for (var row = lane.y; row < params.rows; row += {{ down }}u) {
            local.one += x{{ quads }}[base + row * pitch];
        }
    }
    let total = sum_column{{ quads }}(lane, local);
    if lane.y == 0u && col < pitch {
        let at = group.z * params.stride_out / {{ each }}u + col;
        if accumulate {
            out{{ quads }}[at] += total.one;
        } else {
            out{{ quads }}[at] = total.one;
        }
    }
}

// Of many columns and few rows: an invocation adds up a column, or four, alone.
@compute @workgroup_size(64)
fn sum_alone{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let col = linear_group(group, groups) * 64u + lane;
    let pitch = params.cols / {{ each }}u;
    if col < pitch {
        var total = {{ real }}();
        for (var row = 0u; row < params.rows; row++) {
            total += x{{ quads }}[group.z * params.stride_x / {{ each }}u + row * pitch + col];
        }
        let at = group.z * params.stride_out / {{ each }}u + col;
        if accumulate {
            out{{ quads }}[at] += total;
        } else {
            out{{ quads }}[at] = total;
        }
    }
}

// A split's workgroups follow each other.
@compute @workgroup_size({{ across }}, {{ down }})
fn scale_gradient{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let pitch = params.cols / {{ each }}u;
    let blocks = (pitch + {{ across - 1 }}u) / {{ across }}u;
    let index = linear_group(group, groups);
    let split = index / blocks;
    let col = index % blocks * {{ across }}u + lane.x;
    let first = split * params.depth;
    let inside = col < pitch && first < params.rows;
    var local = Pair{{ quads }}();
    if inside {
        let base = group.z * params.stride_x / {{ each }}u + col;
        let base_error = group.z * params.stride_error / {{ each }}u + col;
        for (var row = first + lane.y; row < min(first + params.depth, params.rows); row += {{ down }}u) {
            local.one += error{{ quads }}[base_error + row * pitch] * x{{ quads }}[base + row * pitch];
        }
    }
    let total = sum_column{{ quads }}(lane, local);
    if lane.y == 0u && inside {
        let at = group.z * params.stride_out / {{ each }}u + split * pitch + col;
        if accumulate {
            out{{ quads }}[at] += total.one;
        } else {
            out{{ quads }}[at] = total.one;
        }
    }
}

@compute @workgroup_size({{ across }}, {{ down }})
fn mean_variance{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let col = linear_group(group, groups) * {{ across }}u + lane.x;
    let pitch = params.cols / {{ each }}u;
    let base = group.z * params.stride_x / {{ each }}u + col;
    let inside = col < pitch;
    let count = f32(params.rows);
    var local = Pair{{ quads }}();
    if inside {
        for (var row = lane.y; row < params.rows; row += {{ down }}u) {
            local.one += x{{ quads }}[base + row * pitch];
        }
    }
    let mean = sum_column{{ quads }}(lane, local).one / count;
    local.one = {{ real }}();
    if inside {
        for (var row = lane.y; row < params.rows; row += {{ down }}u) {
            let centred = x{{ quads }}[base + row * pitch] - mean;
            local.one += centred * centred;
        }
    }
    let variance = sum_column{{ quads }}(lane, local).one / count;
    if lane.y == 0u && inside {
        let at = group.z * params.stride_out / {{ each }}u + col;
        out{{ quads }}[at] = mean;
        out{{ quads }}[at + pitch] = variance;
    }
}

@compute @workgroup_size({{ across }}, {{ down }})
fn normalise_gradients{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let col = linear_group(group, groups) * {{ across }}u + lane.x;
    let pitch = params.cols / {{ each }}u;
    var local = Pair{{ quads }}();
    if col < pitch {
        let at = group.z * params.stride_moments / {{ each }}u + col;
        let mean = moments{{ quads }}[at];
        let variance = moments{{ quads }}[at + pitch];
        let inverse = 1.0 / sqrt(variance + params.epsilon);
        let base = group.z * params.stride_x / {{ each }}u + col;
        let base_error = group.z * params.stride_error / {{ each }}u + col;
        for (var row = lane.y; row < params.rows; row += {{ down }}u) {
            let e = error{{ quads }}[base_error + row * pitch];
            local.one += e * (x{{ quads }}[base + row * pitch] - mean) * inverse;
            local.two += e;
        }
    }
    let total = sum_column{{ quads }}(lane, local);
    if lane.y == 0u && col < pitch {
        grad_gamma{{ quads }}[group.z * params.stride_grad_gamma / {{ each }}u + col] = total.one;
        grad_beta{{ quads }}[group.z * params.stride_grad_beta / {{ each }}u + col] = total.two;
        if has_totals {
            total_gamma{{ quads }}[group.z * params.stride_total_gamma / {{ each }}u + col] += total.one;
            total_beta{{ quads }}[group.z * params.stride_total_beta / {{ each }}u + col] += total.two;
        }
    }
}

// Of columns that differ in mean and deviation from row to row; a split's workgroups follow each other.
@compute @workgroup_size({{ across }}, {{ down }})
fn layer_norm_gradients{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let pitch = params.cols / {{ each }}u;
    let blocks = (pitch + {{ across - 1 }}u) / {{ across }}u;
    let index = linear_group(group, groups);
    let split = index / blocks;
    let col = index % blocks * {{ across }}u + lane.x;
    let first = split * params.depth;
    let inside = col < pitch && first < params.rows;
    var local = Pair{{ quads }}();
    if inside {
        let base = group.z * params.stride_x / {{ each }}u + col;
        let base_error = group.z * params.stride_error / {{ each }}u + col;
        let base_moments = group.z * params.stride_row_moments;
        for (var row = first + lane.y; row < min(first + params.depth, params.rows); row += {{ down }}u) {
            let e = error{{ quads }}[base_error + row * pitch];
            let mean = row_moments[base_moments + 2u * row];
            let inverse = row_moments[base_moments + 2u * row + 1u];
            local.one += e * ((x{{ quads }}[base + row * pitch] - mean) * inverse);
            local.two += e;
        }
    }
    let total = sum_column{{ quads }}(lane, local);
    if lane.y == 0u && inside {
        let at_gamma = group.z * params.stride_grad_gamma / {{ each }}u + split * pitch + col;
        let at_beta = group.z * params.stride_grad_beta / {{ each }}u + split * pitch + col;
        if accumulate {
            grad_gamma{{ quads }}[at_gamma] += total.one;
            grad_beta{{ quads }}[at_beta] += total.two;
        } else {
            grad_gamma{{ quads }}[at_gamma] = total.one;
            grad_beta{{ quads }}[at_beta] = total.two;
        }
    }
}

//% endfor
