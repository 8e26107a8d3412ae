// Attention in registers, for software adapters with subgroups of eight lanes; see src/ops/attention.rs.
//
// A lane owns three positions of a head (queries, or keys where these are what learns), eight apart, with all their columns. It
// goes over the others four at a time: the lanes load different quads of these and pass them round, so that a load serves
// twenty-four positions. A running maximum moves at most once for four keys, and a sum is touched once for them.
//% include "attention.wgsl"

//% set own = 3
const BLOCK = {{ 8 * own }}u;

//% set wide = "params.heads * params.width"
//% macro places(width)
    // Of the four positions ahead: which of them, and which of its columns, a lane loads. Columns past the head repeat its
    // last; they meet zeros, or what they make is not stored.
//% for i in range(width // 8)
    let ahead{{ i }} = ({{ 8 * i }}u + lane) / {{ width // 4 }}u;
    let col{{ i }} = ({{ 8 * i }}u + lane) % {{ width // 4 }}u * 4u;
//% endfor
//% endmacro
//% macro load(name, tensor, pitch, width, quads)
//% for i in range(width // 8)
    let row_{{ name }}{{ i }} = base_{{ name }} + min(other + ahead{{ i }}, last) * {{ pitch }};
//% if quads
    let {{ name }}{{ i }} = {{ tensor }}_quads[(row_{{ name }}{{ i }} + min(col{{ i }}, params.width - 4u)) / 4u];
//% else
    let {{ name }}{{ i }} = vec4<f32>(
//% for j in range(4)
        {{ tensor }}[row_{{ name }}{{ i }} + min(col{{ i }} + {{ j }}u, params.width - 1u)],
//% endfor
    );
//% endif
//% endfor
//% endmacro
//% macro of(name, position, quad, width)
subgroupBroadcast({{ name }}{{ (position * (width // 4) + quad) // 8 }}, {{ (position * (width // 4) + quad) % 8 }}u)
//% endmacro
//% macro own_rows(name, width, quads)
//% for r in range(own)
//% for c in range(width // 4)
    let own_{{ name }}{{ r }}_{{ c }} = {{ name }}_at{{ quads }}(base_{{ name }}, own{{ r }}, {{ 4 * c }}u);
//% endfor
//% endfor
//% endmacro
//% macro product(sum, mine, name, width)
//% for r in range(own)
//% for n in range(4)
    var {{ sum }}{{ r }}_{{ n }} = 0.0;
//% endfor
//% endfor
//% for c in range(width // 4)
//% for n in range(4)
    let {{ sum }}_{{ n }}_{{ c }} = {{ of(name, n, c, width) }};
//% for r in range(own)
    {{ sum }}{{ r }}_{{ n }} += dot(own_{{ mine }}{{ r }}_{{ c }}, {{ sum }}_{{ n }}_{{ c }});
//% endfor
//% endfor
//% endfor
//% endmacro
//% macro weigh(sum, weight, name, width, shrink)
//% for c in range(width // 4)
//% for n in range(4)
    let {{ sum }}_{{ n }}_{{ c }} = {{ of(name, n, c, width) }};
//% endfor
//% for r in range(own)
    {{ sum }}{{ r }}_{{ c }} = {{ sum }}{{ r }}_{{ c }}{{ " * shrink" ~ r if shrink }} + {{ weight }}{{ r }}.x * {{ sum }}_0_{{ c }} + {{ weight }}{{ r }}.y * {{ sum }}_1_{{ c }} + {{ weight }}{{ r }}.z * {{ sum }}_2_{{ c }} + {{ weight }}{{ r }}.w * {{ sum }}_3_{{ c }};
//% endfor
//% endfor
//% endmacro
//% macro sums(name, width)
//% for r in range(own)
//% for c in range(width // 4)
    var {{ name }}{{ r }}_{{ c }} = vec4<f32>();
//% endfor
//% endfor
//% endmacro
//% macro store(name, sum, width, quads)
    let to_{{ name }} = base_{{ name }}(at);
//% for r in range(own)
//% for c in range(width // 4)
    store_{{ name }}{{ quads }}(to_{{ name }}, own{{ r }}, {{ 4 * c }}u, {{ sum }}{{ r }}_{{ c }});
//% endfor
//% endfor
//% endmacro
//% macro quad(call, r)
vec4<f32>({{ call }}{{ r }}_0, {{ call }}{{ r }}_1, {{ call }}{{ r }}_2, {{ call }}{{ r }}_3)
//% endmacro
//% macro four(type, call, query, key)
{{ type }}(
//% for n in range(4)
        {{ call }}{{ query }}{{ " + " ~ n ~ "u" if query == "other" }}, {{ key }}{{ " + " ~ n ~ "u" if key == "other" }}),
//% endfor
    )
//% endmacro
//% for width, quads in [(16, "_quads"), (32, ""), (32, "_quads"), (48, "_quads"), (64, "_quads"), (128, ""), (128, "_quads")]
@compute @workgroup_size(8)
fn forward_{{ width }}{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = task(group, groups, BLOCK);
    let base_q = base_q(at);
    let base_k = base_k(at);
    let base_v = base_v(at);
    let last = params.length - 1u;
//% for r in range(own)
    let own{{ r }} = at.first + {{ 8 * r }}u + lane;
    var top{{ r }} = LOWEST;
    var total{{ r }} = 0.0;
//% endfor
    {{ places(width) }}
    {{ own_rows("q", width, quads) }}
    {{ sums("o", width) }}
    let end = select(params.length, min(params.length, at.first + BLOCK), causal);
    for (var other = 0u; other < end; other += 4u) {
        {{ load("k", "qkv", "params.pitch_k", width, quads) }}
        {{ product("s", "q", "k", width) }}
        {{ load("v", "qkv", "params.pitch_v", width, quads) }}
//% for r in range(own)
        let seen{{ r }} = {{ four("vec4<bool>", "is_seen(", "own" ~ r, "other") }};
        let s{{ r }} = select(vec4<f32>(LOWEST), {{ quad("s", r) }} * params.scale_log2, seen{{ r }});
        let new_top{{ r }} = max(top{{ r }}, max(max(s{{ r }}.x, s{{ r }}.y), max(s{{ r }}.z, s{{ r }}.w)));
        let shrink{{ r }} = exp2(top{{ r }} - new_top{{ r }});
        top{{ r }} = new_top{{ r }};
        var p{{ r }} = select(vec4<f32>(), exp2(s{{ r }} - new_top{{ r }}), seen{{ r }});
        total{{ r }} = total{{ r }} * shrink{{ r }} + (p{{ r }}.x + p{{ r }}.y + p{{ r }}.z + p{{ r }}.w);
        if has_dropout {
            p{{ r }} *= {{ four("vec4<f32>", "kept(at, ", "own" ~ r, "other") }};
        }
//% endfor
        {{ weigh("o", "p", "v", width, true) }}
    }
//% for r in range(own)
//% for c in range(width // 4)
    o{{ r }}_{{ c }} /= total{{ r }};
//% endfor
    if own{{ r }} < params.length {
        stats[at.replica * params.stride_stats + statistic(at, own{{ r }})] = (top{{ r }} + log2(total{{ r }})) * LN_2;
    }
//% endfor
    {{ store("out", "o", width, quads) }}
}

@compute @workgroup_size(8)
fn queries_{{ width }}{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = task(group, groups, BLOCK);
    let base_q = base_q(at);
    let base_k = base_k(at);
    let base_v = base_v(at);
    let base_error = base_error(at);
    let base_attended = base_attended(at);
    let last = params.length - 1u;
//% for r in range(own)
    let own{{ r }} = at.first + {{ 8 * r }}u + lane;
    let stat{{ r }} = LOG2_E * row_stats[at.replica * params.stride_row_stats + statistic(at, min(own{{ r }}, last))];
//% endfor
    {{ places(width) }}
    {{ own_rows("q", width, quads) }}
    {{ own_rows("error", width, quads) }}
//% for r in range(own)
    var dot{{ r }} = 0.0;
//% for c in range(width // 4)
    dot{{ r }} += dot(own_error{{ r }}_{{ c }}, attended_at{{ quads }}(base_attended, own{{ r }}, {{ 4 * c }}u));
//% endfor
    if own{{ r }} < params.length {
        dots[at.replica * params.stride_dots + statistic(at, own{{ r }})] = dot{{ r }};
    }
//% endfor
    {{ sums("o", width) }}
    let end = select(params.length, min(params.length, at.first + BLOCK), causal);
    for (var other = 0u; other < end; other += 4u) {
        {{ load("k", "qkv", "params.pitch_k", width, quads) }}
        {{ load("v", "qkv", "params.pitch_v", width, quads) }}
        {{ product("s", "q", "k", width) }}
        {{ product("e", "error", "v", width) }}
//% for r in range(own)
        let seen{{ r }} = {{ four("vec4<bool>", "is_seen(", "own" ~ r, "other") }};
        let p{{ r }} = select(vec4<f32>(), exp2({{ quad("s", r) }} * params.scale_log2 - stat{{ r }}), seen{{ r }});
        var e{{ r }} = {{ quad("e", r) }};
        if has_dropout {
            e{{ r }} *= {{ four("vec4<f32>", "kept(at, ", "own" ~ r, "other") }};
        }
        let w{{ r }} = p{{ r }} * (e{{ r }} - dot{{ r }}) * params.scale;
//% endfor
        {{ weigh("o", "w", "k", width, false) }}
    }
    {{ store("dq", "o", width, quads) }}
}

@compute @workgroup_size(8)
fn keys_{{ width }}{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = task(group, groups, BLOCK);
    let base_q = base_q(at);
    let base_k = base_k(at);
    let base_v = base_v(at);
    let base_error = base_error(at);
    let last = params.length - 1u;
//% for r in range(own)
    let own{{ r }} = at.first + {{ 8 * r }}u + lane;
//% endfor
    {{ places(width) }}
    {{ own_rows("k", width, quads) }}
    {{ own_rows("v", width, quads) }}
    {{ sums("a", width) }}
    {{ sums("b", width) }}
    // Earlier queries see none of the keys.
    for (var other = select(0u, at.first, causal); other < params.length; other += 4u) {
        {{ load("q", "qkv", "params.pitch_q", width, quads) }}
        {{ load("error", "error", wide, width, quads) }}
        let place = statistic(at, min(other + lane % 4u, last));
        let stat = LOG2_E * row_stats[at.replica * params.stride_row_stats + place];
        let own_dot = row_dots[at.replica * params.stride_row_dots + place];
        let stat_of = vec4<f32>(subgroupBroadcast(stat, 0u), subgroupBroadcast(stat, 1u), subgroupBroadcast(stat, 2u), subgroupBroadcast(stat, 3u));
        let dot_of = vec4<f32>(subgroupBroadcast(own_dot, 0u), subgroupBroadcast(own_dot, 1u), subgroupBroadcast(own_dot, 2u), subgroupBroadcast(own_dot, 3u));
        {{ product("s", "k", "q", width) }}
        {{ product("e", "v", "error", width) }}
//% for r in range(own)
        let seen{{ r }} = {{ four("vec4<bool>", "is_seen(", "other", "own" ~ r) }};
        var p{{ r }} = select(vec4<f32>(), exp2({{ quad("s", r) }} * params.scale_log2 - stat_of), seen{{ r }});
        var w{{ r }} = p{{ r }} * params.scale;
        if has_dropout {
            let kept{{ r }} = {{ four("vec4<f32>", "kept(at, ", "other", "own" ~ r) }};
            w{{ r }} *= kept{{ r }} * {{ quad("e", r) }} - dot_of;
            p{{ r }} *= kept{{ r }};
        } else {
            w{{ r }} *= {{ quad("e", r) }} - dot_of;
        }
//% endfor
        {{ weigh("b", "p", "error", width, false) }}
        {{ weigh("a", "w", "q", width, false) }}
    }
    {{ store("dk", "a", width, quads) }}
    {{ store("dv", "b", width, quads) }}
}

//% endfor
