// Products of y with errors and inputs, and the Oja rule's gradient from them; see src/ops/correlate.rs.
//% include "common.wgsl"

struct Params {
    rows: u32,
    // columns of x, of y and of input
    outputs: u32,
    rank: u32,
    inputs: u32,
    // pieces of the rows, and how long each but the last is
    splits: u32,
    depth: u32,
    stride_x: u32,
    stride_y: u32,
    stride_input: u32,
    stride_origin: u32,
    stride_p: u32,
    stride_statistics: u32,
    stride_correlated: u32,
    stride_gradient: u32,
    stride_out: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> x: array<f32>;
@group(1) @binding(2) var<storage, read> y: array<f32>;
@group(1) @binding(3) var<storage, read> input: array<f32>;
@group(1) @binding(4) var<storage, read_write> statistics: array<f32>;
@group(1) @binding(5) var<storage, read_write> gradient: array<f32>;
@group(1) @binding(6) var<storage, read> p: array<f32>;
@group(1) @binding(7) var<storage, read_write> out: array<f32>;
// what the first kernel wrote
@group(1) @binding(8) var<storage, read> correlated: array<f32>;
// statistics of the accumulation steps before
@group(1) @binding(9) var<storage, read> origin: array<f32>;

// Whether samples are shifted as those of the accumulation steps before, or by their own first row.
override has_origin: bool = false;
// Whether the gradient is added to what is there.
override accumulate: bool = false;

// ---- tiled: 64 columns of x, y or input by 16 ranks a workgroup, four by four an invocation ----

const DEPTH = 16u;
const COLS = 64u;
const RANKS = 16u;
const PITCH = 65u;

var<workgroup> tile: array<f32, 1040>;
var<workgroup> tile_y: array<vec4<f32>, 64>;

// What a workgroup correlates with y.
const ERROR = 0u;
const SQUEEZED = 1u;
const INPUT = 2u;

fn element(source: u32, replica: u32, row: u32, col: u32) -> f32 {
    switch source {
        case ERROR: { return x[replica * params.stride_x + row * params.outputs + col]; }
        case SQUEEZED: { return y[replica * params.stride_y + row * params.rank + col]; }
        default: { return input[replica * params.stride_input + row * params.inputs + col]; }
    }
}

@compute @workgroup_size(64)
fn tiled(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let across = vec3<u32>(
        (params.outputs + COLS - 1u) / COLS,
        (params.rank + COLS - 1u) / COLS,
        (params.inputs + COLS - 1u) / COLS,
    );
    let down = (params.rank + RANKS - 1u) / RANKS;
    let which = linear_group(group, groups);
    let each = (across.x + across.y + across.z) * down;
    let split = which / each;
    let first_rank = which % down * RANKS;
    var tile_of = which % each / down;
    var source = ERROR;
    var width = params.outputs;
    if tile_of >= across.x + across.y {
        source = INPUT;
        width = params.inputs;
        tile_of -= across.x + across.y;
    } else if tile_of >= across.x {
        source = SQUEEZED;
        width = params.rank;
        tile_of -= across.x;
    }

    let wide = params.outputs + params.rank;
    let shift = replica * params.stride_origin + (params.rank + 2u) * wide;
    // An invocation always fetches the same column and the same rank, so that what shifts them stays in registers.
    let col = tile_of * COLS + lane;
    let has_col = col < width;
    let rank = first_rank + lane % RANKS;
    let has_rank = rank < params.rank;
    var first_value = 0.0;
    var first_y = 0.0;
    if source != INPUT && has_col {
        if has_origin {
            first_value = origin[shift + select(0u, params.outputs, source == SQUEEZED) + col];
        } else {
            first_value = element(source, replica, 0u, col);
        }
    }
    if source != INPUT && has_rank {
        if has_origin {
            first_y = origin[shift + params.outputs + rank];
        } else {
            first_y = element(SQUEEZED, replica, 0u, rank);
        }
    }

    // Sums over the rows for columns c, c + 16, c + 32, c + 48 and four neighbouring ranks.
    let own_col = lane % 16u;
    let own_ranks = lane / 16u;
//% for c in range(4)
    var sum{{ c }} = vec4<f32>();
//% endfor
    var total = vec4<f32>();
    var squares = vec4<f32>();
    let end = min((split + 1u) * params.depth, params.rows);
    for (var row = split * params.depth; row < end; row += DEPTH) {
        for (var i = 0u; i < DEPTH; i++) {
            var value = 0.0;
            if has_col && row + i < end {
                value = element(source, replica, row + i, col) - first_value;
            }
            tile[i * PITCH + lane] = value;
        }
        for (var i = 0u; i < 4u; i++) {
            let own_row = i * 4u + lane / RANKS;
            var value = 0.0;
            if has_rank && row + own_row < end {
                value = element(SQUEEZED, replica, row + own_row, rank) - first_y;
            }
            tile_y[own_row * 4u + lane % RANKS / 4u][lane % 4u] = value;
        }
        workgroupBarrier();
        for (var i = 0u; i < DEPTH; i++) {
            let squeezed = tile_y[i * 4u + own_ranks];
            let values = vec4<f32>(
                tile[i * PITCH + own_col],
                tile[i * PITCH + own_col + 16u],
                tile[i * PITCH + own_col + 32u],
                tile[i * PITCH + own_col + 48u],
            );
            sum0 += values.x * squeezed;
            sum1 += values.y * squeezed;
            sum2 += values.z * squeezed;
            sum3 += values.w * squeezed;
            total += values;
            squares += values * values;
        }
        workgroupBarrier();
    }
    if split >= params.splits {
        return;
    }
    let base = replica * params.stride_statistics + split * (params.rank + 3u) * wide;
    let begin = select(0u, params.outputs, source == SQUEEZED);
//% for c in range(4)
    let col{{ c }} = tile_of * COLS + own_col + {{ 16 * c }}u;
    if col{{ c }} < width {
//% for j in range(4)
        let rank{{ j }} = first_rank + own_ranks * 4u + {{ j }}u;
        if rank{{ j }} < params.rank {
            if source == INPUT {
                let at = (split * params.rank + rank{{ j }}) * params.inputs + col{{ c }};
                let place = replica * params.stride_gradient + at;
                let value = sum{{ c }}.{{ "xyzw"[j] }};
                gradient[place] = select(value, gradient[place] + value, accumulate);
            } else {
                statistics[base + rank{{ j }} * wide + begin + col{{ c }}] = sum{{ c }}.{{ "xyzw"[j] }};
            }
        }
//% endfor
        if source != INPUT && first_rank + own_ranks == 0u {
            statistics[base + params.rank * wide + begin + col{{ c }}] = total.{{ "xyzw"[c] }};
            statistics[base + (params.rank + 1u) * wide + begin + col{{ c }}] = squares.{{ "xyzw"[c] }};
            var first{{ c }} = 0.0;
            if !has_origin && split == 0u {
                first{{ c }} = element(source, replica, 0u, col{{ c }});
            }
            statistics[base + (params.rank + 2u) * wide + begin + col{{ c }}] = first{{ c }};
        }
    }
//% endfor
}

// ---- the Oja rule: four neighbouring ranks of four rows an invocation ----

var<workgroup> largest: array<f32, 64>;

// Every workgroup finds the largest deviation anew: two reads a column against 1024 outputs.
@compute @workgroup_size(64)
fn oja(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let wide = params.outputs + params.rank;
    let base = group.z * params.stride_correlated;
    let totals = base + params.rank * wide;
    let count = f32(params.rows);
    var local = 0.0;
    for (var col = lane; col < params.outputs; col += 64u) {
        let mean = correlated[totals + col] / count;
        local = max(local, correlated[totals + wide + col] / count - mean * mean);
    }
    largest[lane] = local;
    workgroupBarrier();
    for (var half = 32u; half > 0u; half /= 2u) {
        if lane < half {
            largest[lane] = max(largest[lane], largest[lane + half]);
        }
        workgroupBarrier();
    }
    let quads = (params.rank + 3u) / 4u;
    let i = linear_group(group, groups) * 64u + lane;
    let row = i / quads * 4u;
    if row >= params.outputs {
        return;
    }
    var deviation = 0.0;
    if params.rows > 1u {
        deviation = sqrt(largest[0] * (count / (count - 1.0)));
    }
    let scale = 1.0 / (deviation + 1e-8);
    // Ranks and rows past the last repeat it, and are not stored.
    let first = i % quads * 4u;
    let ranks = min(first + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.rank - 1u));
    let rows = min(row + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.outputs - 1u));
    let gram = base + params.outputs + ranks;
    let mean_of = totals + params.outputs;
    let mean_y = vec4<f32>(
        correlated[mean_of + ranks.x],
        correlated[mean_of + ranks.y],
        correlated[mean_of + ranks.z],
        correlated[mean_of + ranks.w],
    ) / count;
    let in_p = group.z * params.stride_p + rows * params.rank;
//% for r in range(4)
    var inside{{ r }} = vec4<f32>();
//% endfor
    for (var j = 0u; j < params.rank; j++) {
        let at = gram + j * wide;
        let line = vec4<f32>(correlated[at.x], correlated[at.y], correlated[at.z], correlated[at.w]) / count;
        let mean_j = correlated[mean_of + j] / count;
        let covariance = line - mean_j * mean_y;
//% for r in range(4)
        inside{{ r }} += p[in_p.{{ "xyzw"[r] }} + j] * covariance;
//% endfor
    }
//% for r in range(4)
    let mean{{ r }} = correlated[totals + rows.{{ "xyzw"[r] }}] / count;
    let along{{ r }} = vec4<f32>(
//% for e in range(4)
        correlated[base + ranks.{{ "xyzw"[e] }} * wide + rows.{{ "xyzw"[r] }}],
//% endfor
    ) / count - mean{{ r }} * mean_y;
    // Step by step, so that nothing overflows where the deviation is tiny.
    let step{{ r }} = (inside{{ r }} - along{{ r }}) * scale * scale;
    let at{{ r }} = group.z * params.stride_out + rows.{{ "xyzw"[r] }} * params.rank + first;
//% for e in range(4)
    if row + {{ r }}u < params.outputs && first + {{ e }}u < params.rank {
        out[at{{ r }} + {{ e }}u] = step{{ r }}.{{ "xyzw"[e] }};
    }
//% endfor
//% endfor
}
