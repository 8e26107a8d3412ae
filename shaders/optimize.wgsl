// Parameter updates, one dispatch a group; see src/ops/optimize.rs.
//% include "common.wgsl"

struct Params {
    count: u32,
    group: u32,
    bound: f32,
    momentum: f32,
    beta1: f32,
    beta2: f32,
    // 1 - beta, rounded once: 1 - f32(0.999) would be off by 1e-5
    rest1: f32,
    rest2: f32,
    epsilon: f32,
    stride_values: u32,
    stride_gradients: u32,
    stride_fault: u32,
    stride_moment1: u32,
    stride_moment2: u32,
    stride_moment3: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> gradients: array<f32>;
@group(1) @binding(2) var<storage, read> fault: array<u32>;
@group(1) @binding(3) var<storage, read_write> values: array<f32>;
@group(1) @binding(4) var<storage, read_write> moment1: array<f32>;
@group(1) @binding(5) var<storage, read_write> moment2: array<f32>;
@group(1) @binding(6) var<storage, read_write> moment3: array<f32>;

override has_bound: bool = false;
override has_momentum: bool = false;
override amsgrad: bool = false;
override decoupled: bool = false;

fn gradient(replica: u32, i: u32) -> f32 {
    var g = gradients[replica * params.stride_gradients + i];
    if has_bound {
        g = clamp(g, -params.bound, params.bound);
    }
    return g;
}

@compute @workgroup_size(256)
fn sgd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let i = linear_group(group, groups) * 256u + lane;
    if i >= params.count || fault[replica * params.stride_fault] != 0u {
        return;
    }
    let rate = now.replicas[replica].rate[params.group];
    let decay = now.replicas[replica].decay[params.group];
    let w = replica * params.stride_values + i;
    var g = gradient(replica, i) + decay * values[w];
    if has_momentum {
        let m = replica * params.stride_moment1 + i;
        g += params.momentum * moment1[m];
        moment1[m] = g;
    }
    values[w] -= rate * g;
}

@compute @workgroup_size(256)
fn adam(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let i = linear_group(group, groups) * 256u + lane;
    if i >= params.count || fault[replica * params.stride_fault] != 0u {
        return;
    }
    let rate = now.replicas[replica].rate[params.group];
    let decay = now.replicas[replica].decay[params.group];
    let corrections = now.groups[params.group];
    let w = replica * params.stride_values + i;
    var value = values[w];
    var g = gradient(replica, i);
    if decoupled {
        value -= rate * decay * value;
    } else {
        g += decay * value;
    }
    let m1 = replica * params.stride_moment1 + i;
    let m2 = replica * params.stride_moment2 + i;
    let first = params.beta1 * moment1[m1] + params.rest1 * g;
    var second = params.beta2 * moment2[m2] + params.rest2 * g * g;
    moment1[m1] = first;
    moment2[m2] = second;
    if amsgrad {
        let m3 = replica * params.stride_moment3 + i;
        second = max(second, moment3[m3]);
        moment3[m3] = second;
    }
    values[w] = value - rate / corrections.x * first / (sqrt(second) / corrections.y + params.epsilon);
}

@compute @workgroup_size(256)
fn rmsprop(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let i = linear_group(group, groups) * 256u + lane;
    if i >= params.count || fault[replica * params.stride_fault] != 0u {
        return;
    }
    let rate = now.replicas[replica].rate[params.group];
    let decay = now.replicas[replica].decay[params.group];
    let w = replica * params.stride_values + i;
    let g = gradient(replica, i) + decay * values[w];
    let m = replica * params.stride_moment1 + i;
    let second = params.beta2 * moment1[m] + params.rest2 * g * g;
    moment1[m] = second;
    values[w] -= rate * g / (sqrt(second) + params.epsilon);
}
