// Upper bounds to measure other kernels against; see src/ops/ceiling.rs.
//% include "common.wgsl"

struct Params {
    // vec4s of a replica
    count: u32,
    length: u32,
    factor: f32,
    offset: f32,
    stride_x: u32,
    stride_out: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(1) @binding(2) var<storage, read_write> out: array<vec4<f32>>;

// Eight applications of f, written out so that the loop around them hardly counts.
fn turn(start: vec4<f32>) -> vec4<f32> {
    let factor = vec4<f32>(params.factor);
    let offset = vec4<f32>(params.offset);
    var v = fma(start, factor, offset);
    v = fma(v, factor, offset);
    v = fma(v, factor, offset);
    v = fma(v, factor, offset);
    v = fma(v, factor, offset);
    v = fma(v, factor, offset);
    v = fma(v, factor, offset);
    return fma(v, factor, offset);
}

// Twelve independent sums an invocation: enough to hide the latency of a multiply-add on two ports, few enough for the
// sixteen registers of a CPU's lanes.
@compute @workgroup_size(256)
fn chain(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = linear_group(group, groups) * 768u + lane;
    let from_x = group.z * (params.stride_x / 4u);
    let last = params.count - 1u;
    var a = x[from_x + min(at, last)];
    var b = x[from_x + min(at + 256u, last)];
    var c = x[from_x + min(at + 512u, last)];
    for (var i = 0u; i < params.length; i += 8u) {
        a = turn(a);
        b = turn(b);
        c = turn(c);
    }
    store(group.z, at, a);
    store(group.z, at + 256u, b);
    store(group.z, at + 512u, c);
}

// Four independent loads an invocation before the first store.
@compute @workgroup_size(256)
fn copy(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = linear_group(group, groups) * 1024u + lane;
    let from_x = group.z * (params.stride_x / 4u);
    let last = params.count - 1u;
    let a = x[from_x + min(at, last)];
    let b = x[from_x + min(at + 256u, last)];
    let c = x[from_x + min(at + 512u, last)];
    let d = x[from_x + min(at + 768u, last)];
    store(group.z, at, a);
    store(group.z, at + 256u, b);
    store(group.z, at + 512u, c);
    store(group.z, at + 768u, d);
}

fn store(replica: u32, at: u32, value: vec4<f32>) {
    if at < params.count {
        out[replica * (params.stride_out / 4u) + at] = value;
    }
}
