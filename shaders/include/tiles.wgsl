// Part of the products from tiles in workgroup memory.
//
// A workgroup computes rows x cols outputs. It fetches both factors in blocks of 4 x 4 and keeps them k-major, so that
// the inner loop reads whole quads; each invocation owns four or eight rows by four or eight columns. `kind`, `sizes` and
// the type `real` of what is kept are set by the file that includes this one; with `half` factors are scaled first.
//% include "blocks.wgsl"

const DEPTH = 16u;

// Quads of rows and of columns an invocation owns. One quad of padding a row keeps a warp off one bank.
//% for rows, cols, row_quads, col_quads in sizes
//% set name = rows ~ "x" ~ cols
//% set down = rows // (4 * row_quads)
//% set across = cols // (4 * col_quads)
//% set threads = down * across
//% set pitch_a = rows // 4 + 1
//% set pitch_b = cols // 4 + 1
// ---- {{ name }}: {{ threads }} invocations, {{ 4 * row_quads }} x {{ 4 * col_quads }} each ----

var<workgroup> tile_a_{{ name }}: array<vec4<{{ real }}>, {{ 16 * pitch_a }}>;
var<workgroup> tile_b_{{ name }}: array<vec4<{{ real }}>, {{ 16 * pitch_b }}>;

//% for quads in ["", "_quads"]
@compute @workgroup_size({{ across }}, {{ down }})
fn {{ kind }}_{{ name }}{{ quads }}(
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
            tile_a_{{ name }}[(inner + {{ i }}u) * {{ pitch_a }}u + quad] = {{ "vec4<f16>(params.scale_a * block[" ~ i ~ "])" if half is defined else "block[" ~ i ~ "]" }};
//% endfor
        }
        for (var i = index; i < {{ cols }}u; i += {{ threads }}u) {
            let quad = select(i % {{ cols // 4 }}u, i / 4u, transpose_b);
            let inner = select(i / {{ cols // 4 }}u, i % 4u, transpose_b) * 4u;
            let block = block_b{{ quads }}(base_b, at.col + quad * 4u, k + inner, at.end);
//% for i in range(4)
            tile_b_{{ name }}[(inner + {{ i }}u) * {{ pitch_b }}u + quad] = {{ "vec4<f16>(params.scale_b * block[" ~ i ~ "])" if half is defined else "block[" ~ i ~ "]" }};
//% endfor
        }
        workgroupBarrier();
        for (var i = 0u; i < DEPTH; i++) {
//% for r in range(row_quads)
            let a{{ r }} = vec4<f32>(tile_a_{{ name }}[i * {{ pitch_a }}u + {{ r * down }}u + lane.y]);
            total{{ r }} += a{{ r }};
//% endfor
//% for c in range(col_quads)
            let b{{ c }} = vec4<f32>(tile_b_{{ name }}[i * {{ pitch_b }}u + {{ c * across }}u + lane.x]);
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
        store_sum(at, {{ row }}, total{{ r // 4 }}.{{ "xyzw"[r % 4] }}{{ " / params.scale_a" if half is defined }});
    }
//% endfor
}

//% endfor
//% endfor
