// Layer norm; see src/ops/layernorm.rs. What its scale and shift learn is in columns.wgsl.
//
// Eight invocations share a row, of which each takes every eighth column, or quad of columns; their sums are added in a fixed
// order.
//% include "common.wgsl"

struct Params {
    rows: u32,
    cols: u32,
    epsilon: f32,
    stride_x: u32,
    stride_error: u32,
    stride_gamma: u32,
    stride_beta: u32,
    stride_row_moments: u32,
    stride_addend: u32,
    stride_out: u32,
    stride_moments: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> x: array<f32>;
@group(1) @binding(2) var<storage, read> error: array<f32>;
@group(1) @binding(3) var<storage, read> gamma: array<f32>;
@group(1) @binding(4) var<storage, read> beta: array<f32>;
@group(1) @binding(5) var<storage, read> row_moments: array<f32>;
@group(1) @binding(6) var<storage, read_write> out: array<f32>;
@group(1) @binding(8) var<storage, read> addend: array<f32>;
@group(1) @binding(7) var<storage, read_write> moments: array<f32>;

// The same where rows are whole quads.
@group(1) @binding(1) var<storage, read> x_quads: array<vec4<f32>>;
@group(1) @binding(2) var<storage, read> error_quads: array<vec4<f32>>;
@group(1) @binding(3) var<storage, read> gamma_quads: array<vec4<f32>>;
@group(1) @binding(4) var<storage, read> beta_quads: array<vec4<f32>>;
@group(1) @binding(6) var<storage, read_write> out_quads: array<vec4<f32>>;
@group(1) @binding(8) var<storage, read> addend_quads: array<vec4<f32>>;

override has_addend: bool = false;

const ACROSS = 8u;
const ROWS = 32u;

// One a reduction, so that none waits for the readers of the one before.
var<workgroup> first_sums: array<f32, 256>;
var<workgroup> second_sums: array<f32, 256>;

//% for name in ["first_sums", "second_sums"]
fn {{ name }}_of_row(lane: vec3<u32>, value: f32) -> f32 {
    let base = lane.y * ACROSS;
    {{ name }}[base + lane.x] = value;
    workgroupBarrier();
    var total = {{ name }}[base];
    for (var i = 1u; i < ACROSS; i++) {
        total += {{ name }}[base + i];
    }
    return total;
}

//% endfor
//% for quads, each in [("", 1), ("_quads", 4)]
@compute @workgroup_size(8, 32)
fn forward{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let row = linear_group(group, groups) * ROWS + lane.y;
    // What rows past the end compute is not stored.
    let pitch = params.cols / {{ each }}u;
    let count = f32(params.cols);
    let base = group.z * params.stride_x / {{ each }}u + min(row, params.rows - 1u) * pitch;
    var local = {{ "vec4<f32>()" if quads else "0.0" }};
    for (var col = lane.x; col < pitch; col += ACROSS) {
        local += x{{ quads }}[base + col];
    }
    let mean = first_sums_of_row(lane, {{ "local.x + local.y + local.z + local.w" if quads else "local" }}) / count;
    local = {{ "vec4<f32>()" if quads else "0.0" }};
    for (var col = lane.x; col < pitch; col += ACROSS) {
        let centred = x{{ quads }}[base + col] - mean;
        local += centred * centred;
    }
    let squares = second_sums_of_row(lane, {{ "local.x + local.y + local.z + local.w" if quads else "local" }});
    let inverse = 1.0 / sqrt(squares / count + params.epsilon);
    if row >= params.rows {
        return;
    }
    let base_gamma = group.z * params.stride_gamma / {{ each }}u;
    let base_beta = group.z * params.stride_beta / {{ each }}u;
    let base_out = group.z * params.stride_out / {{ each }}u + row * pitch;
    for (var col = lane.x; col < pitch; col += ACROSS) {
        out{{ quads }}[base_out + col] =
            (x{{ quads }}[base + col] - mean) * inverse * gamma{{ quads }}[base_gamma + col] + beta{{ quads }}[base_beta + col];
    }
    if lane.x < 2u {
        moments[group.z * params.stride_moments + 2u * row + lane.x] = select(mean, inverse, lane.x == 1u);
    }
}

@compute @workgroup_size(8, 32)
fn backward{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let row = linear_group(group, groups) * ROWS + lane.y;
    // What rows past the end compute is not stored.
    let seen = min(row, params.rows - 1u);
    let pitch = params.cols / {{ each }}u;
    let count = f32(params.cols);
    let at_moments = group.z * params.stride_row_moments + 2u * seen;
    let mean = row_moments[at_moments];
    let inverse = row_moments[at_moments + 1u];
    let base = group.z * params.stride_x / {{ each }}u + seen * pitch;
    let base_error = group.z * params.stride_error / {{ each }}u + seen * pitch;
    let base_gamma = group.z * params.stride_gamma / {{ each }}u;
    var of_error = {{ "vec4<f32>()" if quads else "0.0" }};
    var of_both = {{ "vec4<f32>()" if quads else "0.0" }};
    for (var col = lane.x; col < pitch; col += ACROSS) {
        let scaled = gamma{{ quads }}[base_gamma + col] * error{{ quads }}[base_error + col];
        of_error += scaled;
        of_both += scaled * ((x{{ quads }}[base + col] - mean) * inverse);
    }
    let mean_error = first_sums_of_row(lane, {{ "of_error.x + of_error.y + of_error.z + of_error.w" if quads else "of_error" }}) / count;
    let slope = second_sums_of_row(lane, {{ "of_both.x + of_both.y + of_both.z + of_both.w" if quads else "of_both" }}) / count;
    if row >= params.rows {
        return;
    }
    let base_out = group.z * params.stride_out / {{ each }}u + row * pitch;
    for (var col = lane.x; col < pitch; col += ACROSS) {
        let scaled = gamma{{ quads }}[base_gamma + col] * error{{ quads }}[base_error + col];
        let normal = (x{{ quads }}[base + col] - mean) * inverse;
        var total = (scaled - mean_error - normal * slope) * inverse;
        if has_addend {
            total += addend{{ quads }}[group.z * params.stride_addend / {{ each }}u + row * pitch + col];
        }
        out{{ quads }}[base_out + col] = total;
    }
}

//% endfor
