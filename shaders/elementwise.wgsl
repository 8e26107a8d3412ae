// Activations, gates, dropout; see src/ops/elementwise.rs.

struct Params {
    count: u32,
    stream: u32,
    drop: f32,
    keep_scale: f32,
    stride_x: u32,
    stride_saved: u32,
    stride_out: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> x: array<f32>;
@group(1) @binding(2) var<storage, read> saved: array<f32>;
@group(1) @binding(3) var<storage, read_write> out: array<f32>;

override f: u32 = 0u;

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

@compute @workgroup_size(256)
fn dropout(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, groups) * 256u + lane;
    if i < params.count {
        let draw = unit(pcg4d(vec4<u32>(i, params.stream, now.step, now.replicas[group.z].seed)).x);
        let kept = select(0.0, params.keep_scale, draw >= params.drop);
        out[group.z * params.stride_out + i] = kept * x[group.z * params.stride_x + i];
    }
}
