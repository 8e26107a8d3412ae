// The bottleneck with y in workgroup memory, for GPUs: y = delta p; out = epilogue(y q); see src/ops/transport.rs.
//% include "bottleneck.wgsl"

// Columns of delta fetched at once, and ranks summed at once: two an invocation.
const DEPTH = 32u;
const RANKS = 16u;
// One column of padding, since the lanes of a warp read the tile of delta down a column.
const PITCH = 33u;

// The squeezed errors of this workgroup's rows: ROWS x rank, row-major, at most 64 ranks.
var<workgroup> squeezed: array<f32, 2048>;
var<workgroup> tile_delta: array<f32, 1056>;
var<workgroup> tile_p: array<f32, 512>;

//% for quads in ["", "_quads"]
@compute @workgroup_size(256)
fn tiled{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let first_row = linear_group(group, groups) * ROWS;
    let base_p = replica * params.stride_p;
    let base_q = replica * params.stride_q;

    // Project. Lanes of a warp share a rank and differ in the row.
    let row = lane % ROWS;
    let own = lane / ROWS;
    for (var rank = 0u; rank < params.rank; rank += RANKS) {
        var low = 0.0;
        var high = 0.0;
        for (var k = 0u; k < params.outputs; k += DEPTH) {
//% if quads
            // 32 rows of eight quads: one an invocation.
            let at_row = lane / 8u;
            let at_k = lane % 8u * 4u;
            var quad = vec4<f32>();
            if first_row + at_row < params.rows && k + at_k < params.outputs {
                quad = delta_quads[(replica * params.stride_delta + (first_row + at_row) * params.outputs + k + at_k) / 4u];
            }
            tile_delta[at_row * PITCH + at_k] = quad.x;
            tile_delta[at_row * PITCH + at_k + 1u] = quad.y;
            tile_delta[at_row * PITCH + at_k + 2u] = quad.z;
            tile_delta[at_row * PITCH + at_k + 3u] = quad.w;
//% else
            for (var i = lane; i < ROWS * DEPTH; i += 256u) {
                let at_row = i / DEPTH;
                let at_k = i % DEPTH;
                var value = 0.0;
                if first_row + at_row < params.rows && k + at_k < params.outputs {
                    value = delta[replica * params.stride_delta + (first_row + at_row) * params.outputs + k + at_k];
                }
                tile_delta[at_row * PITCH + at_k] = value;
            }
//% endif
            for (var i = lane; i < DEPTH * RANKS; i += 256u) {
                let at_k = i / RANKS;
                let at_rank = rank + i % RANKS;
                var value = 0.0;
                if k + at_k < params.outputs && at_rank < params.rank {
                    value = p[base_p + (k + at_k) * params.rank + at_rank];
                }
                tile_p[i] = value;
            }
            workgroupBarrier();
            for (var i = 0u; i < DEPTH; i++) {
                let error = tile_delta[row * PITCH + i];
                low += error * tile_p[i * RANKS + own];
                high += error * tile_p[i * RANKS + own + 8u];
            }
            workgroupBarrier();
        }
        keep(replica, first_row, row, rank + own, low);
        keep(replica, first_row, row, rank + own + 8u, high);
    }
    workgroupBarrier();

    // Mix and gate: lanes along the columns, eight rows an invocation, so that each element of q serves eight sums.
    let rows = lane / 64u * 8u;
//% set step = 4 if quads else 1
    for (var col = lane % 64u * {{ step }}u; col < params.inputs; col += {{ 64 * step }}u) {
//% for r in range(8)
        var sum{{ r }} = {{ "vec4<f32>()" if quads else "0.0" }};
//% endfor
        for (var rank = 0u; rank < params.rank; rank++) {
//% if quads
            let line = q_quads[(base_q + rank * params.inputs + col) / 4u];
//% else
            let line = q[base_q + rank * params.inputs + col];
//% endif
//% for r in range(8)
            sum{{ r }} += squeezed[(rows + {{ r }}u) * params.rank + rank] * line;
//% endfor
        }
//% for r in range(8)
        {{ "store_quad" if quads else "store" }}(replica, first_row + rows + {{ r }}u, col, sum{{ r }});
//% endfor
    }
}

//% endfor
// One element of y, for the second half and for the rules that learn from it.
fn keep(replica: u32, first_row: u32, row: u32, rank: u32, value: f32) {
    if rank >= params.rank {
        return;
    }
    squeezed[row * params.rank + rank] = value;
    if first_row + row < params.rows {
        y[replica * params.stride_y + (first_row + row) * params.rank + rank] = value;
    }
}
