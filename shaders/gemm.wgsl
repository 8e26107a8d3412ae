// Products from tiles in workgroup memory, for GPUs; see src/ops/gemm.rs.
//
// A workgroup computes rows x cols outputs. It fetches both factors in blocks of 4 x 4 and keeps them k-major, so that
// the inner loop reads whole quads; each invocation owns four or eight rows by four or eight columns.
//% include "product.wgsl"

override transpose_a: bool = false;

const DEPTH = 16u;

fn element_a(base: u32, row: u32, k: u32, end: u32) -> f32 {
    if row >= params.rows || k >= end {
        return 0.0;
    }
    if transpose_a {
        return a[base + k * params.rows + row];
    }
    return a[base + row * params.inner + k];
}

fn element_b(base: u32, k: u32, col: u32, end: u32) -> f32 {
    if col >= params.cols || k >= end {
        return 0.0;
    }
    if transpose_b {
        return b[base + col * params.inner + k];
    }
    return b[base + k * params.cols + col];
}

// Column i of a block holds op(a)[row .. row + 4, k + i].
fn block_a(base: u32, row: u32, k: u32, end: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
//% for i in range(4)
        element_a(base, row, k + {{ i }}u, end),
        element_a(base, row + 1u, k + {{ i }}u, end),
        element_a(base, row + 2u, k + {{ i }}u, end),
        element_a(base, row + 3u, k + {{ i }}u, end),
//% endfor
    );
}

// Column i of a block holds op(b)[k + i, col .. col + 4].
fn block_b(base: u32, col: u32, k: u32, end: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
//% for i in range(4)
        element_b(base, k + {{ i }}u, col, end),
        element_b(base, k + {{ i }}u, col + 1u, end),
        element_b(base, k + {{ i }}u, col + 2u, end),
        element_b(base, k + {{ i }}u, col + 3u, end),
//% endfor
    );
}

// Where rows are whole quads, a block is four loads. What lies past the last row or column repeats the last quad, and
// is not stored.
//% for factor, extent in [("a", "rows"), ("b", "cols")]
fn block_{{ factor }}_quads(base: u32, line: u32, k: u32, end: u32) -> mat4x4<f32> {
    if k >= end {
        return mat4x4<f32>();
    }
    if {{ "transpose_a" if factor == "a" else "!transpose_b" }} {
        let pitch = params.{{ extent }} / 4u;
        let at = base / 4u + k * pitch + min(line / 4u, pitch - 1u);
        return mat4x4<f32>(
            {{ factor }}_quads[at],
            {{ factor }}_quads[at + pitch],
            {{ factor }}_quads[at + 2u * pitch],
            {{ factor }}_quads[at + 3u * pitch],
        );
    }
    let last = params.{{ extent }} - 1u;
    let pitch = params.inner / 4u;
    let at = base / 4u + k / 4u;
    return transpose(mat4x4<f32>(
        {{ factor }}_quads[at + min(line, last) * pitch],
        {{ factor }}_quads[at + min(line + 1u, last) * pitch],
        {{ factor }}_quads[at + min(line + 2u, last) * pitch],
        {{ factor }}_quads[at + min(line + 3u, last) * pitch],
    ));
}

//% endfor
// Quads of rows and of columns an invocation owns. One quad of padding a row keeps a warp off one bank.
//% for rows, cols, row_quads, col_quads in [(16, 64, 1, 1), (64, 16, 1, 1), (32, 32, 1, 1), (64, 64, 2, 2), (128, 64, 2, 2)]
//% set name = rows ~ "x" ~ cols
//% set down = rows // (4 * row_quads)
//% set across = cols // (4 * col_quads)
//% set threads = down * across
//% set pitch_a = rows // 4 + 1
//% set pitch_b = cols // 4 + 1
// ---- {{ name }}: {{ threads }} invocations, {{ 4 * row_quads }} x {{ 4 * col_quads }} each ----

var<workgroup> tile_a_{{ name }}: array<vec4<f32>, {{ 16 * pitch_a }}>;
var<workgroup> tile_b_{{ name }}: array<vec4<f32>, {{ 16 * pitch_b }}>;

//% for quads in ["", "_quads"]
@compute @workgroup_size({{ across }}, {{ down }})
fn tile_{{ name }}{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let at = place(group, groups, {{ rows }}u, {{ cols }}u);
    let base_a = group.z * params.stride_a;
    let base_b = group.z * params.stride_b;
//% for r in range(4 * row_quads)
//% for c in range(col_quads)
    var sum{{ r }}_{{ c }} = vec4<f32>();
//% endfor
//% endfor
//% for r in range(row_quads)
    var total{{ r }} = vec4<f32>();
//% endfor
    for (var k = at.begin; k < at.end; k += DEPTH) {
        // Which index of a block runs fastest follows memory order.
        for (var i = index; i < {{ rows }}u; i += {{ threads }}u) {
            let quad = select(i / 4u, i % {{ rows // 4 }}u, transpose_a);
            let inner = select(i % 4u, i / {{ rows // 4 }}u, transpose_a) * 4u;
            let block = block_a{{ quads }}(base_a, at.row + quad * 4u, k + inner, at.end);
//% for i in range(4)
            tile_a_{{ name }}[(inner + {{ i }}u) * {{ pitch_a }}u + quad] = block[{{ i }}];
//% endfor
        }
        for (var i = index; i < {{ cols }}u; i += {{ threads }}u) {
            let quad = select(i % {{ cols // 4 }}u, i / 4u, transpose_b);
            let inner = select(i / {{ cols // 4 }}u, i % 4u, transpose_b) * 4u;
            let block = block_b{{ quads }}(base_b, at.col + quad * 4u, k + inner, at.end);
//% for i in range(4)
            tile_b_{{ name }}[(inner + {{ i }}u) * {{ pitch_b }}u + quad] = block[{{ i }}];
//% endfor
        }
        workgroupBarrier();
        for (var i = 0u; i < DEPTH; i++) {
//% for r in range(row_quads)
            let a{{ r }} = tile_a_{{ name }}[i * {{ pitch_a }}u + {{ r * down }}u + lane.y];
            total{{ r }} += a{{ r }};
//% endfor
//% for c in range(col_quads)
            let b{{ c }} = tile_b_{{ name }}[i * {{ pitch_b }}u + {{ c * across }}u + lane.x];
//% endfor
//% for r in range(4 * row_quads)
//% for c in range(col_quads)
            sum{{ r }}_{{ c }} += a{{ r // 4 }}.{{ "xyzw"[r % 4] }} * b{{ c }};
//% endfor
//% endfor
        }
        workgroupBarrier();
    }
//% for r in range(4 * row_quads)
//% set row = "at.row + " ~ (r // 4 * down * 4 + r % 4) ~ "u + lane.y * 4u"
//% for c in range(col_quads)
//% set col = "at.col + " ~ (c * across * 4) ~ "u + lane.x * 4u"
//% if quads
    store_quad(group.z, at, {{ row }}, {{ col }}, sum{{ r }}_{{ c }});
//% else
//% for i in range(4)
    store(group.z, at, {{ row }}, {{ col }} + {{ i }}u, sum{{ r }}_{{ c }}.{{ "xyzw"[i] }});
//% endfor
//% endif
//% endfor
    if has_sums && at.col + lane.x == 0u && {{ row }} < params.rows {
        sums[at.base_sums + {{ row }}] = total{{ r // 4 }}.{{ "xyzw"[r % 4] }};
    }
//% endfor
}

//% endfor
//% endfor
// ---- the parts of a product, added in their order ----

//% for quads in ["", "_quads"]
@compute @workgroup_size(256)
fn sum_parts{{ quads }}(
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
    for (var part = 0u; part < params.parts; part++) {
//% if quads
        total += a_quads[(group.z * params.stride_a + part * count + i) / 4u];
//% else
        total += a[group.z * params.stride_a + part * count + i];
//% endif
    }
    {{ "store_quad" if quads else "store" }}(group.z, at, i / params.cols, i % params.cols, total);
}

//% endfor
