// Rows of sequences; see src/ops/rows.rs.
//% include "common.wgsl"

struct Params {
    count: u32,
    cols: u32,
    // rows of a sample of x and of out, and where in out the first one goes
    rows: u32,
    length: u32,
    first: u32,
    at_x: u32,
    at_out: u32,
    outer_x: u32,
    pitch_x: u32,
    stride_x: u32,
    stride_row: u32,
    stride_fill: u32,
    stride_out: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> x: array<f32>;
@group(1) @binding(2) var<storage, read> row: array<f32>;
@group(1) @binding(3) var<storage, read> fill: array<f32>;
@group(1) @binding(4) var<storage, read_write> out: array<f32>;

// The same where rows are whole quads.
@group(1) @binding(1) var<storage, read> x_quads: array<vec4<f32>>;
@group(1) @binding(2) var<storage, read> row_quads: array<vec4<f32>>;
@group(1) @binding(3) var<storage, read> fill_quads: array<vec4<f32>>;
@group(1) @binding(4) var<storage, read_write> out_quads: array<vec4<f32>>;

override has_fill: bool = false;

//% for quads, each, real in [("", 1, "f32"), ("_quads", 4, "vec4<f32>")]
//% for entry, sign in [("add_row", "+"), ("scale_columns", "*")]
@compute @workgroup_size(256)
fn {{ entry }}{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, groups) * 256u + lane;
    if i < params.count / {{ each }}u {
        out{{ quads }}[(group.z * params.stride_out + params.at_out) / {{ each }}u + i] =
            x{{ quads }}[(group.z * params.stride_x + params.at_x) / {{ each }}u + i]
            {{ sign }} row{{ quads }}[group.z * params.stride_row / {{ each }}u + i % (params.cols / {{ each }}u)];
    }
}

//% endfor

@compute @workgroup_size(256)
fn place_rows{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, groups) * 256u + lane;
    if i >= params.count / {{ each }}u {
        return;
    }
    let across = params.cols / {{ each }}u;
    let col = i % across;
    let sample = i / across / params.length;
    let from_first = i / across % params.length - params.first;
    var value = {{ real }}();
    // What lies before the first row has wrapped round.
    if from_first < params.rows {
        let base = group.z * params.stride_x + params.at_x + sample * params.outer_x;
        value = x{{ quads }}[(base + from_first * params.pitch_x) / {{ each }}u + col];
    } else if has_fill {
        value = fill{{ quads }}[group.z * params.stride_fill / {{ each }}u + col];
    }
    out{{ quads }}[(group.z * params.stride_out + params.at_out) / {{ each }}u + i] = value;
}

//% endfor

@compute @workgroup_size(256)
fn clear(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, groups) * 256u + lane;
    if i < params.count {
        out[group.z * params.stride_out + params.at_out + i] = 0.0;
    }
}
