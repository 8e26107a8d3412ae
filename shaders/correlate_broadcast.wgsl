// Products of y with errors, for software adapters with subgroups of eight lanes; see src/ops/correlate.rs.
//
// Lanes lie along the columns of x; they load different ranks of y and pass them round. The last workgroup of
// a part correlates y with itself.
//% include "common.wgsl"

struct Params {
    rows: u32,
    // columns of x and of y
    outputs: u32,
    rank: u32,
    // Every part of the rows is `depth` long but the last, and has statistics of its own.
    parts: u32,
    depth: u32,
    stride_x: u32,
    stride_y: u32,
    stride_statistics: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> x: array<f32>;
@group(1) @binding(2) var<storage, read> y: array<f32>;
@group(1) @binding(3) var<storage, read_write> statistics: array<f32>;

// x where its rows are whole quads.
@group(1) @binding(1) var<storage, read> x_quads: array<vec4<f32>>;

//% set steps = 4
//% for ranks in [8, 16]
//% set halves = ranks // 8
//% for quads in ["", "_quads"]
@compute @workgroup_size(8)
fn broadcast_{{ ranks }}{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let tiles = (params.outputs + 63u) / 64u;
    let number = linear_group(group, groups);
    let part = number / (tiles + 1u);
    let which = number % (tiles + 1u);
    if part >= params.parts {
        return;
    }
    let end = min((part + 1u) * params.depth, params.rows);
    // Rows, ranks and columns past the edge repeat the last ones; rows count for nothing, the rest is not stored.
    let wide = params.outputs + params.rank;
    let base = replica * params.stride_statistics + part * (params.rank + 2u) * wide;
//% for h in range(halves)
    let y{{ h }} = replica * params.stride_y + min({{ 8 * h }}u + lane, params.rank - 1u);
    let first_y{{ h }} = y[y{{ h }}];
//% endfor
//% for part in ["x", "y"]
//% set columns = 2 if part == "x" else halves
    {{ "if which < tiles" if part == "x" else "else" }} {
//% if part == "x"
        let col = which * 64u + lane{{ " * 4u" if quads }};
//% for c in range(2)
//% if quads
        let x{{ c }} = (replica * params.stride_x + min(col + {{ 32 * c }}u, params.outputs - 4u)) / 4u;
        let first{{ c }} = x_quads[x{{ c }}];
//% else
        let x{{ c }} = replica * params.stride_x + min(col + vec4<u32>({{ 32 * c }}u, {{ 32 * c + 8 }}u, {{ 32 * c + 16 }}u, {{ 32 * c + 24 }}u), vec4<u32>(params.outputs - 1u));
        let first{{ c }} = vec4<f32>(x[x{{ c }}.x], x[x{{ c }}.y], x[x{{ c }}.z], x[x{{ c }}.w]);
//% endif
//% endfor
//% endif
//% for c in range(columns)
//% for j in range(ranks)
        var sum{{ j }}_{{ c }} = {{ "vec4<f32>()" if part == "x" else "0.0" }};
//% endfor
        var total{{ c }} = {{ "vec4<f32>()" if part == "x" else "0.0" }};
        var squares{{ c }} = {{ "vec4<f32>()" if part == "x" else "0.0" }};
//% endfor
        for (var row = part * params.depth; row < end; row += {{ steps }}u) {
//% for i in range(steps)
            let row{{ i }} = min(row + {{ i }}u, params.rows - 1u);
            let weight{{ i }} = select(0.0, 1.0, row + {{ i }}u < end);
//% for h in range(halves)
            let y{{ h }}_{{ i }} = weight{{ i }} * (y[y{{ h }} + row{{ i }} * params.rank] - first_y{{ h }});
//% endfor
//% for c in range(columns)
//% if part == "y"
            let v{{ c }}_{{ i }} = y{{ c }}_{{ i }};
//% elif quads
            let v{{ c }}_{{ i }} = weight{{ i }} * (x_quads[x{{ c }} + row{{ i }} * params.outputs / 4u] - first{{ c }});
//% else
            let at{{ c }}_{{ i }} = x{{ c }} + row{{ i }} * params.outputs;
            let v{{ c }}_{{ i }} = weight{{ i }} * (vec4<f32>(x[at{{ c }}_{{ i }}.x], x[at{{ c }}_{{ i }}.y], x[at{{ c }}_{{ i }}.z], x[at{{ c }}_{{ i }}.w]) - first{{ c }});
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
//% for e in range(4 if part == "x" else 1)
//% set at = ("col + " ~ ((32 * c + e) if quads else (32 * c + 8 * e)) ~ "u") if part == "x" else ("lane + " ~ 8 * c ~ "u")
//% set end = "params.outputs" if part == "x" else "params.rank"
//% set component = ("." ~ "xyzw"[e]) if part == "x" else ""
        if {{ at }} < {{ end }} {
            let at = base{{ "" if part == "x" else " + params.outputs" }} + {{ at }};
//% for j in range(ranks)
            if {{ j }}u < params.rank {
                statistics[at + {{ j }}u * wide] = sum{{ j }}_{{ c }}{{ component }};
            }
//% endfor
            statistics[at + params.rank * wide] = total{{ c }}{{ component }};
            statistics[at + (params.rank + 1u) * wide] = squares{{ c }}{{ component }};
        }
//% endfor
//% endfor
    }
//% endfor
}

//% endfor
//% endfor
