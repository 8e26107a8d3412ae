// Activations, gates, dropout, sums; see src/ops/elementwise.rs.
//% include "common.wgsl"

struct Params {
    count: u32,
    cols: u32,
    stream: u32,
    // elements that share a draw
    together: u32,
    drop: f32,
    keep_scale: f32,
    threshold: f32,
    stride_x: u32,
    stride_saved: u32,
    stride_scale: u32,
    stride_a: u32,
    stride_b: u32,
    stride_out: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> x: array<f32>;
@group(1) @binding(2) var<storage, read> saved: array<f32>;
@group(1) @binding(3) var<storage, read> scale: array<f32>;
@group(1) @binding(4) var<storage, read_write> out: array<f32>;
@group(1) @binding(5) var<storage, read> a: array<f32>;
@group(1) @binding(6) var<storage, read> b: array<f32>;

// The same tensors, four elements at once.
@group(1) @binding(1) var<storage, read> x_quads: array<vec4<f32>>;
@group(1) @binding(4) var<storage, read_write> out_quads: array<vec4<f32>>;
@group(1) @binding(5) var<storage, read> a_quads: array<vec4<f32>>;
@group(1) @binding(6) var<storage, read> b_quads: array<vec4<f32>>;

override f: u32 = 0u;
// Whether several elements share a draw; a division that most masks do without.
override shares_draws: bool = false;

// What a draw scales by: 0, or what makes up for those that are dropped.
fn kept(draw: u32, replica: u32) -> f32 {
    let value = unit(pcg4d(vec4<u32>(draw, params.stream, now.step, now.replicas[replica].seed)).x);
    return select(0.0, params.keep_scale, value >= params.drop);
}

@compute @workgroup_size(256)
fn activation(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, groups) * 256u + lane;
    if i < params.count {
        out[group.z * params.stride_out + i] = activate(f, x[group.z * params.stride_x + i]);
    }
}

@compute @workgroup_size(256)
fn gate(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, groups) * 256u + lane;
    if i < params.count {
        let slope = derivative(f, saved[group.z * params.stride_saved + i]);
        out[group.z * params.stride_out + i] = x[group.z * params.stride_x + i] * slope;
    }
}

// A quad shares its draw, or all its elements have their own.
//% for quads, each in [("", 1), ("_quads", 4)]
@compute @workgroup_size(256)
fn dropout{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, groups) * 256u + lane;
    if i < params.count / {{ each }}u {
        let at = group.z * params.stride_x / {{ each }}u + i;
        let at_out = group.z * params.stride_out / {{ each }}u + i;
        if shares_draws {
            out{{ quads }}[at_out] = kept({{ each }}u * i / params.together, group.z) * x{{ quads }}[at];
        } else {
//% if quads
            let first = 4u * i;
            let mask = vec4<f32>(
                kept(first, group.z), kept(first + 1u, group.z), kept(first + 2u, group.z), kept(first + 3u, group.z),
            );
            out_quads[at_out] = mask * x_quads[at];
//% else
            out[at_out] = kept(i, group.z) * x[at];
//% endif
        }
    }
}

@compute @workgroup_size(256)
fn add{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, groups) * 256u + lane;
    if i < params.count / {{ each }}u {
        out{{ quads }}[group.z * params.stride_out / {{ each }}u + i] =
            a{{ quads }}[group.z * params.stride_a / {{ each }}u + i]
            + b{{ quads }}[group.z * params.stride_b / {{ each }}u + i];
    }
}

//% endfor
var<workgroup> squares: array<vec2<f32>, 256>;

// One workgroup a replica: the matrices are as narrow as the rank. Invocations take every sixteenth row and column, so
// that zeros which pad a smaller rank leave all sums as they are, to the bit.
@compute @workgroup_size(16, 16)
fn significant(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) place: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let base_x = group.z * params.stride_x;
    let base_scale = group.z * params.stride_scale;
    var local = vec2<f32>();
    for (var row = place.y; row * params.cols < params.count; row += 16u) {
        for (var col = place.x; col < params.cols; col += 16u) {
            let i = row * params.cols + col;
            let pair = vec2<f32>(x[base_x + i], scale[base_scale + i]);
            local += pair * pair;
        }
    }
    squares[lane] = local;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if lane < half {
            squares[lane] += squares[lane + half];
        }
        workgroupBarrier();
    }
    let kept = select(0.0, 1.0, sqrt(squares[0].x) > params.threshold * sqrt(squares[0].y));
    for (var i = lane; i < params.count; i += 256u) {
        out[group.z * params.stride_out + i] = kept * x[base_x + i];
    }
}
