// out = epilogue(alpha * op(a) op(b)); see src/ops/gemm.rs.

struct Params {
    rows: u32,
    cols: u32,
    inner: u32,
    alpha: f32,
    addend_scale: f32,
    bound: f32,
    stride_a: u32,
    stride_b: u32,
    stride_addend: u32,
    stride_bias: u32,
    stride_saved: u32,
    stride_out: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> a: array<f32>;
@group(1) @binding(2) var<storage, read> b: array<f32>;
@group(1) @binding(3) var<storage, read> addend: array<f32>;
@group(1) @binding(4) var<storage, read> bias: array<f32>;
@group(1) @binding(5) var<storage, read> saved: array<f32>;
@group(1) @binding(6) var<storage, read_write> out: array<f32>;

override transpose_a: bool = false;
override transpose_b: bool = false;
override has_addend: bool = false;
override has_bias: bool = false;
override has_bound: bool = false;
override activation: u32 = 0u;
override gate: u32 = 0u;

fn store(replica: u32, row: u32, col: u32, sum: f32) {
    if row >= params.rows || col >= params.cols {
        return;
    }
    let at = row * params.cols + col;
    var value = params.alpha * sum;
    if has_addend {
        value += params.addend_scale * addend[replica * params.stride_addend + at];
    }
    if has_bias {
        value += bias[replica * params.stride_bias + col];
    }
    if has_bound {
        value = clamp(value, -params.bound, params.bound);
    }
    if activation != NONE {
        value = activate(activation, value);
    }
    if gate != NONE {
        value *= derivative(gate, saved[replica * params.stride_saved + at]);
    }
    out[replica * params.stride_out + at] = value;
}

fn element_a(base: u32, row: u32, k: u32) -> f32 {
    if row >= params.rows || k >= params.inner {
        return 0.0;
    }
    if transpose_a {
        return a[base + k * params.rows + row];
    }
    return a[base + row * params.inner + k];
}

fn element_b(base: u32, k: u32, col: u32) -> f32 {
    if col >= params.cols || k >= params.inner {
        return 0.0;
    }
    if transpose_b {
        return b[base + col * params.inner + k];
    }
    return b[base + k * params.cols + col];
}

// ---- tile: 64 x 64 outputs a workgroup, 16 deep, 4 x 4 an invocation ----

const DEPTH = 16u;
// 16 vec4 a row of a tile, and one of padding against bank conflicts
const PITCH = 17u;

var<workgroup> tile_a: array<vec4<f32>, 272>;
var<workgroup> tile_b: array<vec4<f32>, 272>;

@compute @workgroup_size(16, 16)
fn tile(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let replica = group.z;
    let across = (params.cols + 63u) / 64u;
    let which = linear_group(group, groups);
    let first_row = which / across * 64u;
    let first_col = which % across * 64u;
    let base_a = replica * params.stride_a;
    let base_b = replica * params.stride_b;

    // Each invocation fetches four neighbours of each tile; which index runs fastest follows memory order.
    let slow = index / 16u;
    let fast = index % 16u;
    let quad_a = select(slow, fast, transpose_a);
    let k_a = select(fast, slow, transpose_a);
    let quad_b = select(fast, slow, transpose_b);
    let k_b = select(slow, fast, transpose_b);

    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();
    for (var k = 0u; k < params.inner; k += DEPTH) {
        let row = first_row + quad_a * 4u;
        tile_a[k_a * PITCH + quad_a] = vec4<f32>(
            element_a(base_a, row, k + k_a),
            element_a(base_a, row + 1u, k + k_a),
            element_a(base_a, row + 2u, k + k_a),
            element_a(base_a, row + 3u, k + k_a),
        );
        let col = first_col + quad_b * 4u;
        tile_b[k_b * PITCH + quad_b] = vec4<f32>(
            element_b(base_b, k + k_b, col),
            element_b(base_b, k + k_b, col + 1u),
            element_b(base_b, k + k_b, col + 2u),
            element_b(base_b, k + k_b, col + 3u),
        );
        workgroupBarrier();
        for (var i = 0u; i < DEPTH; i++) {
            let column = tile_a[i * PITCH + lane.y];
            let line = tile_b[i * PITCH + lane.x];
            sum0 += column.x * line;
            sum1 += column.y * line;
            sum2 += column.z * line;
            sum3 += column.w * line;
        }
        workgroupBarrier();
    }

    let row = first_row + lane.y * 4u;
    let col = first_col + lane.x * 4u;
    store_quad(replica, row, col, sum0);
    store_quad(replica, row + 1u, col, sum1);
    store_quad(replica, row + 2u, col, sum2);
    store_quad(replica, row + 3u, col, sum3);
}

fn store_quad(replica: u32, row: u32, col: u32, sum: vec4<f32>) {
    store(replica, row, col, sum.x);
    store(replica, row, col + 1u, sum.y);
    store(replica, row, col + 2u, sum.z);
    store(replica, row, col + 3u, sum.w);
}
