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

// The same tensors where they are whole quads, as every parameter group is.
@group(1) @binding(1) var<storage, read> gradients_quads: array<vec4<f32>>;
@group(1) @binding(3) var<storage, read_write> values_quads: array<vec4<f32>>;
@group(1) @binding(4) var<storage, read_write> moment1_quads: array<vec4<f32>>;
@group(1) @binding(5) var<storage, read_write> moment2_quads: array<vec4<f32>>;
@group(1) @binding(6) var<storage, read_write> moment3_quads: array<vec4<f32>>;

override has_bound: bool = false;
override has_momentum: bool = false;
override amsgrad: bool = false;
override decoupled: bool = false;

//% for quads in ["", "_quads"]
//% set numbers = "vec4<f32>" if quads else "f32"
//% set each = 4 if quads else 1
fn gradient{{ quads }}(replica: u32, i: u32) -> {{ numbers }} {
    var g = gradients{{ quads }}[replica * params.stride_gradients / {{ each }}u + i];
    if has_bound {
        g = clamp(g, {{ numbers }}(-params.bound), {{ numbers }}(params.bound));
    }
    return g;
}

@compute @workgroup_size(256)
fn sgd{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let i = linear_group(group, groups) * 256u + lane;
    if i >= params.count / {{ each }}u || fault[replica * params.stride_fault] != 0u {
        return;
    }
    let rate = now.replicas[replica].rate[params.group];
    let decay = now.replicas[replica].decay[params.group];
    let w = replica * params.stride_values / {{ each }}u + i;
    var g = gradient{{ quads }}(replica, i) + decay * values{{ quads }}[w];
    if has_momentum {
        let m = replica * params.stride_moment1 / {{ each }}u + i;
        g += params.momentum * moment1{{ quads }}[m];
        moment1{{ quads }}[m] = g;
    }
    values{{ quads }}[w] -= rate * g;
}

@compute @workgroup_size(256)
fn adam{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let i = linear_group(group, groups) * 256u + lane;
    if i >= params.count / {{ each }}u || fault[replica * params.stride_fault] != 0u {
        return;
    }
    let rate = now.replicas[replica].rate[params.group];
    let decay = now.replicas[replica].decay[params.group];
    let corrections = now.groups[params.group];
    let w = replica * params.stride_values / {{ each }}u + i;
    var value = values{{ quads }}[w];
    var g = gradient{{ quads }}(replica, i);
    if decoupled {
        value -= rate * decay * value;
    } else {
        g += decay * value;
    }
    let m1 = replica * params.stride_moment1 / {{ each }}u + i;
    let m2 = replica * params.stride_moment2 / {{ each }}u + i;
    let first = params.beta1 * moment1{{ quads }}[m1] + params.rest1 * g;
    var second = params.beta2 * moment2{{ quads }}[m2] + params.rest2 * g * g;
    moment1{{ quads }}[m1] = first;
    moment2{{ quads }}[m2] = second;
    if amsgrad {
        let m3 = replica * params.stride_moment3 / {{ each }}u + i;
        second = max(second, moment3{{ quads }}[m3]);
        moment3{{ quads }}[m3] = second;
    }
    values{{ quads }}[w] = value - rate / corrections.x * first / (sqrt(second) / corrections.y + params.epsilon);
}

@compute @workgroup_size(256)
fn rmsprop{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let i = linear_group(group, groups) * 256u + lane;
    if i >= params.count / {{ each }}u || fault[replica * params.stride_fault] != 0u {
        return;
    }
    let rate = now.replicas[replica].rate[params.group];
    let decay = now.replicas[replica].decay[params.group];
    let w = replica * params.stride_values / {{ each }}u + i;
    let g = gradient{{ quads }}(replica, i) + decay * values{{ quads }}[w];
    let m = replica * params.stride_moment1 / {{ each }}u + i;
    let second = params.beta2 * moment1{{ quads }}[m] + params.rest2 * g * g;
    moment1{{ quads }}[m] = second;
    values{{ quads }}[w] -= rate * g / (sqrt(second) + params.epsilon);
}

//% endfor
