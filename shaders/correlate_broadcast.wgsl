// Products of y with errors, for software adapters with subgroups of eight lanes; see src/ops/correlate.rs.
//
// Lanes lie along the columns of x; they load different ranks of y and pass them round. The last workgroup of
// a split correlates y with itself.
//% include "common.wgsl"

struct Params {
    rows: u32,
    // columns of x and of y
    outputs: u32,
    rank: u32,
    // Every split of the rows is `depth` long but the last, and has statistics of its own.
    splits: u32,
    depth: u32,
    stride_x: u32,
    stride_y: u32,
    stride_origin: u32,
    stride_statistics: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> x: array<f32>;
@group(1) @binding(2) var<storage, read> y: array<f32>;
@group(1) @binding(3) var<storage, read_write> statistics: array<f32>;
// statistics of the accumulation steps before
@group(1) @binding(4) var<storage, read> origin: array<f32>;

// x where its rows are whole quads.
@group(1) @binding(1) var<storage, read> x_quads: array<vec4<f32>>;

// Whether samples are shifted as those of the accumulation steps before, or by their own first row.
override has_origin: bool = false;

//% set steps = 4
// Up to 16 ranks are one block, whose products with itself are made from the same loads. More are blocks of 32 in
// workgroups of their own, and y then has columns like x.
//% for ranks, blocks in [(8, false), (16, false), (32, true)]
//% set halves = ranks // 8
//% for quads in ["", "_quads"]
@compute @workgroup_size(8)
fn broadcast_{{ "blocks" if blocks else ranks }}{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let tiles = (params.outputs + 63u) / 64u;
    let number = linear_group(group, groups);
    let all = tiles + {{ "(params.rank + 63u) / 64u" if blocks else "1u" }};
    let which = number % all;
//% if blocks
    let count = (params.rank + 31u) / 32u;
    let first_rank = number / all % count * 32u;
    let split = number / all / count;
//% else
    let first_rank = 0u;
    let split = number / all;
//% endif
    if split >= params.splits {
        return;
    }
    let end = min((split + 1u) * params.depth, params.rows);
    // Rows, ranks and columns past the edge repeat the last ones; rows count for nothing, the rest is not stored.
    let wide = params.outputs + params.rank;
    let base = replica * params.stride_statistics + split * (params.rank + 3u) * wide;
    let shift = replica * params.stride_origin + (params.rank + 2u) * wide;
//% for h in range(halves)
    let rank{{ h }} = min(first_rank + {{ 8 * h }}u + lane, params.rank - 1u);
    let y{{ h }} = replica * params.stride_y + rank{{ h }};
    var first_y{{ h }} = y[y{{ h }}];
    if has_origin {
        first_y{{ h }} = origin[shift + params.outputs + rank{{ h }}];
    }
//% endfor
//% for part in ["x", "y"]
//% set wide = part == "x" or blocks
//% set columns = 2 if wide else halves
//% set by_quad = quads and part == "x"
//% set pitch = "params.outputs" if part == "x" else "params.rank"
    {{ "if which < tiles" if part == "x" else "else" }} {
//% if wide
        let col = {{ "which" if part == "x" else "(which - tiles)" }} * 64u + lane{{ " * 4u" if by_quad }};
//% for c in range(2)
//% if by_quad
        let cols{{ c }} = min(col + {{ 32 * c }}u, params.outputs - 4u) + vec4<u32>(0u, 1u, 2u, 3u);
        let x{{ c }} = (replica * params.stride_x + cols{{ c }}.x) / 4u;
        var first{{ c }} = x_quads[x{{ c }}];
//% else
        let cols{{ c }} = min(col + vec4<u32>({{ 32 * c }}u, {{ 32 * c + 8 }}u, {{ 32 * c + 16 }}u, {{ 32 * c + 24 }}u), vec4<u32>({{ pitch }} - 1u));
        let x{{ c }} = replica * params.stride_{{ part }} + cols{{ c }};
        var first{{ c }} = vec4<f32>({{ part }}[x{{ c }}.x], {{ part }}[x{{ c }}.y], {{ part }}[x{{ c }}.z], {{ part }}[x{{ c }}.w]);
//% endif
        if has_origin {
            let at = shift{{ "" if part == "x" else " + params.outputs" }} + cols{{ c }};
            first{{ c }} = vec4<f32>(origin[at.x], origin[at.y], origin[at.z], origin[at.w]);
        }
//% endfor
//% endif
//% for c in range(columns)
//% for j in range(ranks)
        var sum{{ j }}_{{ c }} = {{ "vec4<f32>()" if wide else "0.0" }};
//% endfor
        var total{{ c }} = {{ "vec4<f32>()" if wide else "0.0" }};
        var squares{{ c }} = {{ "vec4<f32>()" if wide else "0.0" }};
//% endfor
        for (var row = split * params.depth; row < end; row += {{ steps }}u) {
//% for i in range(steps)
            let row{{ i }} = min(row + {{ i }}u, params.rows - 1u);
            let weight{{ i }} = select(0.0, 1.0, row + {{ i }}u < end);
//% for h in range(halves)
            let y{{ h }}_{{ i }} = weight{{ i }} * (y[y{{ h }} + row{{ i }} * params.rank] - first_y{{ h }});
//% endfor
//% for c in range(columns)
//% if not wide
            let v{{ c }}_{{ i }} = y{{ c }}_{{ i }};
//% elif by_quad
            let v{{ c }}_{{ i }} = weight{{ i }} * (x_quads[x{{ c }} + row{{ i }} * params.outputs / 4u] - first{{ c }});
//% else
            let at{{ c }}_{{ i }} = x{{ c }} + row{{ i }} * {{ pitch }};
            let v{{ c }}_{{ i }} = weight{{ i }} * (vec4<f32>({{ part }}[at{{ c }}_{{ i }}.x], {{ part }}[at{{ c }}_{{ i }}.y], {{ part }}[at{{ c }}_{{ i }}.z], {{ part }}[at{{ c }}_{{ i }}.w]) - first{{ c }});
//% endif
            total{{ c }} += v{{ c }}_{{ i }};
            squares{{ c }} += v{{ c }}_{{ i }} * v{{ c }}_{{ i }};
//% endfor
//% endfor
//% for j in range(ranks)
//% for i in range(steps)
            let f{{ j }}_{{ i }} = subgroupBroadcast(y{{ j // 8 }}_{{ i }}, {{ j % 8 }}u);
//% endfor
//% for c in range(columns)
            sum{{ j }}_{{ c }} = sum{{ j }}_{{ c }} + f{{ j }}_0 * v{{ c }}_0 + f{{ j }}_1 * v{{ c }}_1 + f{{ j }}_2 * v{{ c }}_2 + f{{ j }}_3 * v{{ c }}_3;
//% endfor
//% endfor
        }
//% for c in range(columns)
//% for e in range(4 if wide else 1)
//% set at = ("col + " ~ ((32 * c + e) if by_quad else (32 * c + 8 * e)) ~ "u") if wide else ("lane + " ~ 8 * c ~ "u")
//% set component = ("." ~ "xyzw"[e]) if wide else ""
        if {{ at }} < {{ pitch }} {
            let at = base{{ "" if part == "x" else " + params.outputs" }} + {{ at }};
//% for j in range(ranks)
            if first_rank + {{ j }}u < params.rank {
                statistics[at + (first_rank + {{ j }}u) * wide] = sum{{ j }}_{{ c }}{{ component }};
            }
//% endfor
            if first_rank == 0u {
                statistics[at + params.rank * wide] = total{{ c }}{{ component }};
                statistics[at + (params.rank + 1u) * wide] = squares{{ c }}{{ component }};
                statistics[at + (params.rank + 2u) * wide] = select(0.0, {{ "first" if wide else "first_y" }}{{ c }}{{ component }}, !has_origin && split == 0u);
            }
        }
//% endfor
//% endfor
    }
//% endfor
}

//% endfor
//% endfor
