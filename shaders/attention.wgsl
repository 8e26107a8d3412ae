// Attention from tiles in workgroup memory, for GPUs; see src/ops/attention.rs.
//
// A workgroup owns 32 positions of a head (queries, or keys where these are what learns) and goes over the others in blocks of
// 32. Its 64 invocations own 4 x 4 scores each, and of every result four rows and each eighth quad of columns. Scores come
// from both factors k-major, 16 columns at a time; what they weigh comes 32 columns at a time.
//% include "attention.wgsl"

const BLOCK = 32u;
// Quads of a row of a tile: one more than there are keeps neighbours off one bank.
const PITCH = 9u;
// Of the second factor, behind 16 rows of the first.
const OTHER = 144u;

var<workgroup> tiles: array<vec4<f32>, 288>;
// A row an other position, a quad for every four own ones.
var<workgroup> weights: array<vec4<f32>, 288>;
var<workgroup> shares: array<vec4<f32>, 64>;

//% for quads in ["", "_quads"]
//% for name in ["q", "k", "v", "error"]
// A block of 4 x 4, k-major.
fn {{ name }}_block{{ quads }}(base: u32, position: u32, col: u32, slot: u32) {
    let block = transpose(mat4x4<f32>(
//% for i in range(4)
        {{ name }}_at{{ quads }}(base, position + {{ i }}u, col),
//% endfor
    ));
//% for i in range(4)
    tiles[slot + {{ i }}u * PITCH] = block[{{ i }}];
//% endfor
}

//% endfor
//% endfor
//% macro product(sum, own, other, quads)
    // {{ sum }}: own {{ own }} by the block's {{ other }}
//% for r in range(4)
    var {{ sum }}{{ r }} = vec4<f32>();
//% endfor
    for (var k = 0u; k < params.width; k += 16u) {
        let line = index % 32u / 4u;
        let inner = index % 4u * 4u;
        if index < 32u {
            {{ own }}_block{{ quads }}(base_{{ own }}, at.first + line * 4u, k + inner, inner * PITCH + line);
        } else {
            {{ other }}_block{{ quads }}(base_{{ other }}, block + line * 4u, k + inner, OTHER + inner * PITCH + line);
        }
        workgroupBarrier();
        for (var i = 0u; i < 16u; i++) {
            let one = tiles[i * PITCH + lane.y];
            let two = tiles[OTHER + i * PITCH + lane.x];
//% for r in range(4)
            {{ sum }}{{ r }} += one.{{ "xyzw"[r] }} * two;
//% endfor
        }
        workgroupBarrier();
    }
//% endmacro
//% macro keep(weight)
    let turned_{{ weight }} = transpose(mat4x4<f32>({{ weight }}0, {{ weight }}1, {{ weight }}2, {{ weight }}3));
//% for i in range(4)
    weights[(lane.x * 4u + {{ i }}u) * PITCH + lane.y] = turned_{{ weight }}[{{ i }}];
//% endfor
//% endmacro
//% macro weigh(sum, other, count, quads)
    // {{ sum }}: the block's {{ other }}, by the weights
//% for w in range(count)
    for (var i = index; i < 256u; i += 64u) {
        tiles[i / 8u * PITCH + i % 8u] = {{ other }}_at{{ quads }}(base_{{ other }}, block + i / 8u, i % 8u * 4u + {{ 32 * w }}u);
    }
    workgroupBarrier();
    for (var j = 0u; j < BLOCK; j++) {
        let one = weights[j * PITCH + lane.y];
        let two = tiles[j * PITCH + lane.x];
//% for r in range(4)
        {{ sum }}{{ r }}_{{ w }} += one.{{ "xyzw"[r] }} * two;
//% endfor
    }
    workgroupBarrier();
//% endfor
//% endmacro
//% macro sums(name, count)
//% for r in range(4)
//% for w in range(count)
    var {{ name }}{{ r }}_{{ w }} = vec4<f32>();
//% endfor
//% endfor
//% endmacro
//% macro store(name, sum, count, quads)
//% for r in range(4)
    if own + {{ r }}u < params.length {
//% for w in range(count)
        store_{{ name }}{{ quads }}(base_{{ name }}(at), own + {{ r }}u, lane.x * 4u + {{ 32 * w }}u, {{ sum }}{{ r }}_{{ w }});
//% endfor
    }
//% endfor
//% endmacro
// Of four values of each invocation, by own rows: the largest, and the sum, over the eight invocations of the rows.
//% for name, call in [("largest", "max(total, shares[lane.y * 8u + i])"), ("total", "total + shares[lane.y * 8u + i]")]
fn {{ name }}_of_rows(lane: vec3<u32>, value: vec4<f32>) -> vec4<f32> {
    shares[lane.y * 8u + lane.x] = value;
    workgroupBarrier();
    var total = shares[lane.y * 8u];
    for (var i = 1u; i < 8u; i++) {
        total = {{ call }};
    }
    // Until all have read.
    workgroupBarrier();
    return total;
}

//% endfor
// `count` quads of columns an invocation: heads up to 32, 64, 96, 128 wide.
//% for count in range(1, 5)
//% for quads in ["", "_quads"]
@compute @workgroup_size(8, 8)
fn forward_{{ 32 * count }}{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let at = task(group, groups, BLOCK);
    let base_q = base_q(at);
    let base_k = base_k(at);
    let base_v = base_v(at);
    let own = at.first + lane.y * 4u;
    {{ sums("o", count) }}
    // By own rows: the largest score so far, and what its invocation's exponentials of differences from it add up to.
    var top = vec4<f32>(LOWEST);
    var total = vec4<f32>();
    let end = select(params.length, min(params.length, at.first + BLOCK), causal);
    for (var block = 0u; block < end; block += BLOCK) {
        {{ product("s", "q", "k", quads) }}
        let key = block + lane.x * 4u;
//% for r in range(4)
        let seen{{ r }} = vec4<bool>(sees(own + {{ r }}u, key), sees(own + {{ r }}u, key + 1u), sees(own + {{ r }}u, key + 2u), sees(own + {{ r }}u, key + 3u));
        s{{ r }} = select(vec4<f32>(LOWEST), s{{ r }} * params.scale_log2, seen{{ r }});
        let top{{ r }} = max(max(s{{ r }}.x, s{{ r }}.y), max(s{{ r }}.z, s{{ r }}.w));
//% endfor
        let new_top = max(top, largest_of_rows(lane, vec4<f32>(top0, top1, top2, top3)));
        let shrink = exp2(top - new_top);
        top = new_top;
//% for r in range(4)
        var p{{ r }} = select(vec4<f32>(), exp2(s{{ r }} - top.{{ "xyzw"[r] }}), seen{{ r }});
//% endfor
        total = total * shrink + vec4<f32>(
//% for r in range(4)
            p{{ r }}.x + p{{ r }}.y + p{{ r }}.z + p{{ r }}.w,
//% endfor
        );
        if has_dropout {
//% for r in range(4)
            p{{ r }} *= vec4<f32>(kept(at, own + {{ r }}u, key), kept(at, own + {{ r }}u, key + 1u), kept(at, own + {{ r }}u, key + 2u), kept(at, own + {{ r }}u, key + 3u));
//% endfor
        }
//% for r in range(4)
//% for w in range(count)
        o{{ r }}_{{ w }} *= shrink.{{ "xyzw"[r] }};
//% endfor
//% endfor
        {{ keep("p") }}
        {{ weigh("o", "v", count, quads) }}
    }
    total = total_of_rows(lane, total);
//% for r in range(4)
//% for w in range(count)
    o{{ r }}_{{ w }} /= total.{{ "xyzw"[r] }};
//% endfor
    if lane.x == 0u && own + {{ r }}u < params.length {
        stats[at.replica * params.stride_stats + statistic(at, own + {{ r }}u)] = (top.{{ "xyzw"[r] }} + log2(total.{{ "xyzw"[r] }})) * LN_2;
    }
//% endfor
    {{ store("out", "o", count, quads) }}
}

@compute @workgroup_size(8, 8)
fn queries_{{ 32 * count }}{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let at = task(group, groups, BLOCK);
    let base_q = base_q(at);
    let base_k = base_k(at);
    let base_v = base_v(at);
    let base_error = base_error(at);
    let base_attended = base_attended(at);
    let own = at.first + lane.y * 4u;
    var share = vec4<f32>();
    for (var col = lane.x * 4u; col < params.width; col += 32u) {
        share += vec4<f32>(
//% for r in range(4)
            dot(error_at{{ quads }}(base_error, own + {{ r }}u, col), attended_at{{ quads }}(base_attended, own + {{ r }}u, col)),
//% endfor
        );
    }
    let dot_of = total_of_rows(lane, share);
//% for r in range(4)
    let stat{{ r }} = row_stats[at.replica * params.stride_row_stats + statistic(at, min(own + {{ r }}u, params.length - 1u))] * LOG2_E;
    if lane.x == 0u && own + {{ r }}u < params.length {
        dots[at.replica * params.stride_dots + statistic(at, own + {{ r }}u)] = dot_of.{{ "xyzw"[r] }};
    }
//% endfor
    {{ sums("o", count) }}
    let end = select(params.length, min(params.length, at.first + BLOCK), causal);
    for (var block = 0u; block < end; block += BLOCK) {
        {{ product("s", "q", "k", quads) }}
        {{ product("e", "error", "v", quads) }}
        let key = block + lane.x * 4u;
//% for r in range(4)
        let seen{{ r }} = vec4<bool>(sees(own + {{ r }}u, key), sees(own + {{ r }}u, key + 1u), sees(own + {{ r }}u, key + 2u), sees(own + {{ r }}u, key + 3u));
        if has_dropout {
            e{{ r }} *= vec4<f32>(kept(at, own + {{ r }}u, key), kept(at, own + {{ r }}u, key + 1u), kept(at, own + {{ r }}u, key + 2u), kept(at, own + {{ r }}u, key + 3u));
        }
        s{{ r }} = select(vec4<f32>(), exp2(s{{ r }} * params.scale_log2 - stat{{ r }}), seen{{ r }}) * (e{{ r }} - dot_of.{{ "xyzw"[r] }}) * params.scale;
//% endfor
        {{ keep("s") }}
        {{ weigh("o", "k", count, quads) }}
    }
    {{ store("dq", "o", count, quads) }}
}

@compute @workgroup_size(8, 8)
fn keys_{{ 32 * count }}{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let at = task(group, groups, BLOCK);
    let base_q = base_q(at);
    let base_k = base_k(at);
    let base_v = base_v(at);
    let base_error = base_error(at);
    let base_stats = at.replica * params.stride_row_stats;
    let base_dots = at.replica * params.stride_row_dots;
    let own = at.first + lane.y * 4u;
    {{ sums("a", count) }}
    {{ sums("b", count) }}
    // Earlier queries see none of the keys.
    for (var block = select(0u, at.first, causal); block < params.length; block += BLOCK) {
        {{ product("s", "k", "q", quads) }}
        {{ product("e", "v", "error", quads) }}
        let query = block + lane.x * 4u;
//% for i in range(4)
        let place{{ i }} = statistic(at, min(query + {{ i }}u, params.length - 1u));
//% endfor
        let stat = LOG2_E * vec4<f32>(
//% for i in range(4)
            row_stats[base_stats + place{{ i }}],
//% endfor
        );
        let dot_of = vec4<f32>(
//% for i in range(4)
            row_dots[base_dots + place{{ i }}],
//% endfor
        );
//% for r in range(4)
        let seen{{ r }} = vec4<bool>(is_seen(own + {{ r }}u, query), is_seen(own + {{ r }}u, query + 1u), is_seen(own + {{ r }}u, query + 2u), is_seen(own + {{ r }}u, query + 3u));
        var p{{ r }} = select(vec4<f32>(), exp2(s{{ r }} * params.scale_log2 - stat), seen{{ r }});
        if has_dropout {
            let kept{{ r }} = vec4<f32>(kept(at, query, own + {{ r }}u), kept(at, query + 1u, own + {{ r }}u), kept(at, query + 2u, own + {{ r }}u), kept(at, query + 3u, own + {{ r }}u));
            s{{ r }} = p{{ r }} * (kept{{ r }} * e{{ r }} - dot_of) * params.scale;
            p{{ r }} *= kept{{ r }};
        } else {
            s{{ r }} = p{{ r }} * (e{{ r }} - dot_of) * params.scale;
        }
//% endfor
        {{ keep("p") }}
        {{ weigh("b", "error", count, quads) }}
        {{ keep("s") }}
        {{ weigh("a", "q", count, quads) }}
    }
    {{ store("dk", "a", count, quads) }}
    {{ store("dv", "b", count, quads) }}
}

//% endfor
//% endfor
