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

// ---- stream: for adapters whose lanes are those of a CPU. No shared memory: eight lanes lie along the columns, up to
// 16 columns each, and every element of a is read at one address by all lanes. ----

// vec4 columns a lane: 1, 2 or 4, as many as the product is wide.
override quads: u32 = 4u;

const STREAM_ROWS = 8u;

@compute @workgroup_size(8)
fn stream(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let width = quads * 32u;
    let across = (params.cols + width - 1u) / width;
    let which = linear_group(group, groups);
    let row = which / across * STREAM_ROWS;
    let col = which % across * width + lane;
    if row >= params.rows {
        return;
    }

    // Rows and columns past the edge read the last ones; what they compute is not stored.
    let base_a = replica * params.stride_a;
    let pitch_a = select(params.inner, 1u, transpose_a);
    let step_a = select(1u, params.rows, transpose_a);
    let last_row = params.rows - 1u;
    var a0 = base_a + min(row + 0u, last_row) * pitch_a;
    var a1 = base_a + min(row + 1u, last_row) * pitch_a;
    var a2 = base_a + min(row + 2u, last_row) * pitch_a;
    var a3 = base_a + min(row + 3u, last_row) * pitch_a;
    var a4 = base_a + min(row + 4u, last_row) * pitch_a;
    var a5 = base_a + min(row + 5u, last_row) * pitch_a;
    var a6 = base_a + min(row + 6u, last_row) * pitch_a;
    var a7 = base_a + min(row + 7u, last_row) * pitch_a;

    let base_b = replica * params.stride_b;
    let pitch_b = select(1u, params.inner, transpose_b);
    let step_b = select(params.cols, 1u, transpose_b);
    let last_col = vec4<u32>(params.cols - 1u);
    let lanes = col + vec4<u32>(0u, 8u, 16u, 24u);
    var b0 = base_b + min(lanes + 0u, last_col) * pitch_b;
    var b1 = base_b + min(lanes + 32u, last_col) * pitch_b;
    var b2 = base_b + min(lanes + 64u, last_col) * pitch_b;
    var b3 = base_b + min(lanes + 96u, last_col) * pitch_b;

    var sum00 = vec4<f32>();
    var sum01 = vec4<f32>();
    var sum02 = vec4<f32>();
    var sum03 = vec4<f32>();
    var sum10 = vec4<f32>();
    var sum11 = vec4<f32>();
    var sum12 = vec4<f32>();
    var sum13 = vec4<f32>();
    var sum20 = vec4<f32>();
    var sum21 = vec4<f32>();
    var sum22 = vec4<f32>();
    var sum23 = vec4<f32>();
    var sum30 = vec4<f32>();
    var sum31 = vec4<f32>();
    var sum32 = vec4<f32>();
    var sum33 = vec4<f32>();
    var sum40 = vec4<f32>();
    var sum41 = vec4<f32>();
    var sum42 = vec4<f32>();
    var sum43 = vec4<f32>();
    var sum50 = vec4<f32>();
    var sum51 = vec4<f32>();
    var sum52 = vec4<f32>();
    var sum53 = vec4<f32>();
    var sum60 = vec4<f32>();
    var sum61 = vec4<f32>();
    var sum62 = vec4<f32>();
    var sum63 = vec4<f32>();
    var sum70 = vec4<f32>();
    var sum71 = vec4<f32>();
    var sum72 = vec4<f32>();
    var sum73 = vec4<f32>();
    for (var k = 0u; k < params.inner; k++) {
        let x0 = a[a0];
        a0 += step_a;
        let x1 = a[a1];
        a1 += step_a;
        let x2 = a[a2];
        a2 += step_a;
        let x3 = a[a3];
        a3 += step_a;
        let x4 = a[a4];
        a4 += step_a;
        let x5 = a[a5];
        a5 += step_a;
        let x6 = a[a6];
        a6 += step_a;
        let x7 = a[a7];
        a7 += step_a;
        let line0 = vec4<f32>(b[b0.x], b[b0.y], b[b0.z], b[b0.w]);
        b0 += step_b;
        sum00 += x0 * line0;
        sum10 += x1 * line0;
        sum20 += x2 * line0;
        sum30 += x3 * line0;
        sum40 += x4 * line0;
        sum50 += x5 * line0;
        sum60 += x6 * line0;
        sum70 += x7 * line0;
        if quads > 1u {
            let line1 = vec4<f32>(b[b1.x], b[b1.y], b[b1.z], b[b1.w]);
            b1 += step_b;
            sum01 += x0 * line1;
            sum11 += x1 * line1;
            sum21 += x2 * line1;
            sum31 += x3 * line1;
            sum41 += x4 * line1;
            sum51 += x5 * line1;
            sum61 += x6 * line1;
            sum71 += x7 * line1;
        }
        if quads > 2u {
            let line2 = vec4<f32>(b[b2.x], b[b2.y], b[b2.z], b[b2.w]);
            b2 += step_b;
            sum02 += x0 * line2;
            sum12 += x1 * line2;
            sum22 += x2 * line2;
            sum32 += x3 * line2;
            sum42 += x4 * line2;
            sum52 += x5 * line2;
            sum62 += x6 * line2;
            sum72 += x7 * line2;
            let line3 = vec4<f32>(b[b3.x], b[b3.y], b[b3.z], b[b3.w]);
            b3 += step_b;
            sum03 += x0 * line3;
            sum13 += x1 * line3;
            sum23 += x2 * line3;
            sum33 += x3 * line3;
            sum43 += x4 * line3;
            sum53 += x5 * line3;
            sum63 += x6 * line3;
            sum73 += x7 * line3;
        }
    }

    store_line(replica, row + 0u, col, sum00, sum01, sum02, sum03);
    store_line(replica, row + 1u, col, sum10, sum11, sum12, sum13);
    store_line(replica, row + 2u, col, sum20, sum21, sum22, sum23);
    store_line(replica, row + 3u, col, sum30, sum31, sum32, sum33);
    store_line(replica, row + 4u, col, sum40, sum41, sum42, sum43);
    store_line(replica, row + 5u, col, sum50, sum51, sum52, sum53);
    store_line(replica, row + 6u, col, sum60, sum61, sum62, sum63);
    store_line(replica, row + 7u, col, sum70, sum71, sum72, sum73);
}

fn store_line(replica: u32, row: u32, col: u32, sum0: vec4<f32>, sum1: vec4<f32>, sum2: vec4<f32>, sum3: vec4<f32>) {
    store_strided(replica, row, col, sum0);
    if quads > 1u {
        store_strided(replica, row, col + 32u, sum1);
    }
    if quads > 2u {
        store_strided(replica, row, col + 64u, sum2);
        store_strided(replica, row, col + 96u, sum3);
    }
}

fn store_strided(replica: u32, row: u32, col: u32, sum: vec4<f32>) {
    store(replica, row, col, sum.x);
    store(replica, row, col + 8u, sum.y);
    store(replica, row, col + 16u, sum.z);
    store(replica, row, col + 24u, sum.w);
}
