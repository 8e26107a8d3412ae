// Part of the products of factors in 16 bits by matrix units.
//
// Four subgroups share a tile, two by two, and each keeps four by two matrices of sums. What a unit computes has no
// elements that a lane could name: sums pass through workgroup memory, one matrix a subgroup at a time, to the epilogue.
//% include "blocks.wgsl"

// Of a subgroup.
override lanes: u32 = 32u;

//% for side in [8, 16]
//% set rows = 8 * side
//% set cols = 4 * side
//% set depth = 16
//% set name = rows ~ "x" ~ cols
// Padding keeps rows off one bank.
//% set pitch_a = rows + 8
//% set pitch_b = cols + 8
// ---- {{ name }}: units of {{ side }} x {{ side }} ----

var<workgroup> tile_a_{{ name }}: array<f16, {{ depth * pitch_a }}>;
var<workgroup> tile_b_{{ name }}: array<f16, {{ depth * pitch_b }}>;
var<workgroup> leaving_{{ name }}: array<f32, {{ 4 * side * side }}>;
var<workgroup> totals_{{ name }}: array<f32, {{ rows }}>;

//% for quads in ["", "_quads"]
@compute @workgroup_size(lanes * 4u)
fn matrix_{{ name }}{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let at = place(group, groups, {{ rows }}u, {{ cols }}u);
    let base_a = group.z * params.stride_a;
    let base_b = group.z * params.stride_b;
    let subgroup = index / lanes;
    let down = subgroup / 2u * {{ 4 * side }}u;
    let across = subgroup % 2u * {{ 2 * side }}u;
//% for r in range(4)
//% for c in range(2)
    var sum{{ r }}_{{ c }}: coop_mat{{ side }}x{{ side }}<f32, C>;
//% endfor
//% endfor
    if has_sums {
        for (var i = index; i < {{ rows }}u; i += lanes * 4u) {
            totals_{{ name }}[i] = 0.0;
        }
    }
    for (var k = at.begin; k < at.end; k += {{ depth }}u) {
        // Which index of a block runs fastest follows memory order.
        for (var i = index; i < {{ rows * depth // 16 }}u; i += lanes * 4u) {
            let quad = select(i / {{ depth // 4 }}u, i % {{ rows // 4 }}u, transpose_a);
            let inner = select(i % {{ depth // 4 }}u, i / {{ rows // 4 }}u, transpose_a) * 4u;
            let block = block_a{{ quads }}(base_a, at.row + quad * 4u, k + inner, at.end);
//% for i in range(4)
            let a{{ i }} = vec4<f16>(params.scale_a * block[{{ i }}]);
//% for j in range(4)
            tile_a_{{ name }}[(inner + {{ i }}u) * {{ pitch_a }}u + quad * 4u + {{ j }}u] = a{{ i }}.{{ "xyzw"[j] }};
//% endfor
//% endfor
        }
        for (var i = index; i < {{ cols * depth // 16 }}u; i += lanes * 4u) {
            let quad = select(i % {{ cols // 4 }}u, i / {{ depth // 4 }}u, transpose_b);
            let inner = select(i / {{ cols // 4 }}u, i % {{ depth // 4 }}u, transpose_b) * 4u;
            let block = block_b{{ quads }}(base_b, at.col + quad * 4u, k + inner, at.end);
//% for i in range(4)
            let b{{ i }} = vec4<f16>(params.scale_b * block[{{ i }}]);
//% for j in range(4)
            tile_b_{{ name }}[(inner + {{ i }}u) * {{ pitch_b }}u + quad * 4u + {{ j }}u] = b{{ i }}.{{ "xyzw"[j] }};
//% endfor
//% endfor
        }
        workgroupBarrier();
        for (var i = 0u; i < {{ depth }}u; i += {{ side }}u) {
            // Tiles are k-major: columns of a, rows of b.
//% for r in range(4)
            let a{{ r }} = coopLoad<coop_mat{{ side }}x{{ side }}<f16, A>>(&tile_a_{{ name }}[i * {{ pitch_a }}u + down + {{ r * side }}u], {{ pitch_a }}u);
//% endfor
//% for c in range(2)
            let b{{ c }} = coopLoadT<coop_mat{{ side }}x{{ side }}<f16, B>>(&tile_b_{{ name }}[i * {{ pitch_b }}u + across + {{ c * side }}u], {{ pitch_b }}u);
//% endfor
//% for r in range(4)
//% for c in range(2)
            sum{{ r }}_{{ c }} = coopMultiplyAdd(a{{ r }}, b{{ c }}, sum{{ r }}_{{ c }});
//% endfor
//% endfor
        }
        if has_sums {
            for (var row = index; row < {{ rows }}u; row += lanes * 4u) {
                for (var i = 0u; i < {{ depth }}u; i++) {
                    totals_{{ name }}[row] += f32(tile_a_{{ name }}[i * {{ pitch_a }}u + row]);
                }
            }
        }
        workgroupBarrier();
    }
    let mine = subgroup * {{ side * side }}u;
//% for r in range(4)
//% for c in range(2)
    coopStoreT(sum{{ r }}_{{ c }}, &leaving_{{ name }}[mine], {{ side }}u);
    workgroupBarrier();
    for (var i = index % lanes; i < {{ side * side // 4 }}u; i += lanes) {
        let row = at.row + down + {{ r * side }}u + i / {{ side // 4 }}u;
        let col = at.col + across + {{ c * side }}u + i % {{ side // 4 }}u * 4u;
        let at_quad = mine + i * 4u;
//% if quads
        store_quad(group.z, at, row, col, vec4<f32>(leaving_{{ name }}[at_quad], leaving_{{ name }}[at_quad + 1u], leaving_{{ name }}[at_quad + 2u], leaving_{{ name }}[at_quad + 3u]));
//% else
//% for j in range(4)
        store(group.z, at, row, col + {{ j }}u, leaving_{{ name }}[at_quad + {{ j }}u]);
//% endfor
//% endif
    }
    workgroupBarrier();
//% endfor
//% endfor
    if has_sums && at.col == 0u {
        for (var row = index; row < min({{ rows }}u, params.rows - min(params.rows, at.row)); row += lanes * 4u) {
            store_sum(at, at.row + row, totals_{{ name }}[row] / params.scale_a);
        }
    }
}

//% endfor
//% endfor
