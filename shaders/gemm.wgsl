// Products from tiles in workgroup memory, for GPUs, and the sums of their splits; see src/ops/gemm.rs.
//% set kind = "tile"
//% set real = "f32"
//% set sizes = [(16, 64, 1, 1), (64, 16, 1, 1), (32, 32, 1, 1), (64, 64, 2, 2), (128, 64, 2, 2)]
//% include "tiles.wgsl"

// ---- the splits of a product, added in their order ----

//% for quads in ["", "_quads"]
@compute @workgroup_size(256)
fn sum_splits{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
//% if quads
    let i = (linear_group(group, groups) * 256u + lane) * 4u;
//% else
    let i = linear_group(group, groups) * 256u + lane;
//% endif
    let count = params.rows * params.cols;
    if i >= count {
        return;
    }
    var at: Place;
    at.base_out = group.z * params.stride_out;
    var total = {{ "vec4<f32>()" if quads else "0.0" }};
    for (var split = 0u; split < params.splits; split++) {
//% if quads
        total += a_quads[(group.z * params.stride_a + split * count + i) / 4u];
//% else
        total += a[group.z * params.stride_a + split * count + i];
//% endif
    }
    {{ "store_quad" if quads else "store" }}(group.z, at, i / params.cols, i % params.cols, total);
}

//% endfor
