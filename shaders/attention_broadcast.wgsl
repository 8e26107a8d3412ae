// Attention in registers, for software adapters with subgroups of eight lanes; see src/ops/attention.rs.
//
// A lane owns one to three positions of a head (queries, or keys where these are what learns), eight apart, with all their
// columns. It goes over the others four at a time: the lanes load different quads of these and pass them round, so that a load
// serves up to twenty-four positions. A running maximum moves at most once for four keys, and a sum is touched once for them.
//% include "attention.wgsl"

//% set wide = "params.heads * params.width"
// Columns in registers, own positions of a lane, others ahead: as much as a compiler takes a second or two for.
//% for width, own, ahead, quads in [(16, 3, 4, "_quads"), (32, 1, 4, ""), (32, 3, 4, "_quads"), (48, 3, 4, "_quads"), (64, 2, 4, "_quads"), (128, 1, 4, "_quads")]
//% set reals = "vec" ~ ahead ~ "<f32>"
//% set bools = "vec" ~ ahead ~ "<bool>"
//% macro places()
    // Of the positions ahead: which of them, and which of its columns, a lane loads. Columns past the head repeat its
    // last; they meet zeros, or what they make is not stored.
//% for i in range(width * ahead // 32)
    let ahead{{ i }} = ({{ 8 * i }}u + lane) / {{ width // 4 }}u;
    let col{{ i }} = ({{ 8 * i }}u + lane) % {{ width // 4 }}u * 4u;
//% endfor
//% endmacro
//% macro load(name, tensor, pitch)
//% for i in range(width * ahead // 32)
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
//% macro of(name, position, quad)
subgroupBroadcast({{ name }}{{ (position * (width // 4) + quad) // 8 }}, {{ (position * (width // 4) + quad) % 8 }}u)
//% endmacro
//% macro own_rows(name)
//% for r in range(own)
//% for c in range(width // 4)
    let own_{{ name }}{{ r }}_{{ c }} = {{ name }}_at{{ quads }}(base_{{ name }}, own{{ r }}, {{ 4 * c }}u);
//% endfor
//% endfor
//% endmacro
//% macro product(sum, mine, name)
//% for r in range(own)
//% for n in range(ahead)
    var {{ sum }}{{ r }}_{{ n }} = 0.0;
//% endfor
//% endfor
//% for c in range(width // 4)
//% for n in range(ahead)
    let {{ sum }}_{{ n }}_{{ c }} = {{ of(name, n, c) }};
//% for r in range(own)
    {{ sum }}{{ r }}_{{ n }} += dot(own_{{ mine }}{{ r }}_{{ c }}, {{ sum }}_{{ n }}_{{ c }});
//% endfor
//% endfor
//% endfor
//% endmacro
//% macro weigh(sum, weight, name, shrink)
//% for c in range(width // 4)
//% for n in range(ahead)
    let {{ sum }}_{{ n }}_{{ c }} = {{ of(name, n, c) }};
//% endfor
//% for r in range(own)
    {{ sum }}{{ r }}_{{ c }} = {{ sum }}{{ r }}_{{ c }}{{ " * shrink" ~ r if shrink }}
//% for n in range(ahead)
        + {{ weight }}{{ r }}.{{ "xyzw"[n] }} * {{ sum }}_{{ n }}_{{ c }}
//% endfor
        ;
//% endfor
//% endfor
//% endmacro
//% macro sums(name)
//% for r in range(own)
//% for c in range(width // 4)
    var {{ name }}{{ r }}_{{ c }} = vec4<f32>();
//% endfor
//% endfor
//% endmacro
//% macro store(name, sum)
    let to_{{ name }} = base_{{ name }}(at);
//% for r in range(own)
    if own{{ r }} < params.length {
//% for c in range(width // 4)
        store_{{ name }}{{ quads }}(to_{{ name }}, own{{ r }}, {{ 4 * c }}u, {{ sum }}{{ r }}_{{ c }});
//% endfor
    }
//% endfor
//% endmacro
//% macro quad(call, r)
{{ reals }}(
//% for n in range(ahead)
        {{ call }}{{ r }}_{{ n }},
//% endfor
    )
//% endmacro
//% macro four(type, call, query, key)
{{ type }}(
//% for n in range(ahead)
        {{ call }}{{ query }}{{ " + " ~ n ~ "u" if query == "other" }}, {{ key }}{{ " + " ~ n ~ "u" if key == "other" }}),
//% endfor
    )
//% endmacro
@compute @workgroup_size(8)
fn forward_{{ width }}{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = task(group, groups, {{ 8 * own }}u);
    let base_q = base_q(at);
    let base_k = base_k(at);
    let base_v = base_v(at);
    let last = params.length - 1u;
//% for r in range(own)
    let own{{ r }} = at.first + {{ 8 * r }}u + lane;
    var top{{ r }} = LOWEST;
    var total{{ r }} = 0.0;
//% endfor
    {{ places() }}
    {{ own_rows("q") }}
    {{ sums("o") }}
    let end = select(params.length, min(params.length, at.first + {{ 8 * own }}u), causal);
    for (var other = 0u; other < end; other += {{ ahead }}u) {
        {{ load("k", "qkv", "params.pitch_k") }}
        {{ product("s", "q", "k") }}
        {{ load("v", "qkv", "params.pitch_v") }}
//% for r in range(own)
        let seen{{ r }} = {{ four(bools, "sees(", "own" ~ r, "other") }};
        let s{{ r }} = select({{ reals }}(LOWEST), {{ quad("s", r) }} * params.scale_log2, seen{{ r }});
        let new_top{{ r }} = max(top{{ r }}, {{ "max(max(s" ~ r ~ ".x, s" ~ r ~ ".y), max(s" ~ r ~ ".z, s" ~ r ~ ".w))" if ahead == 4 else "max(s" ~ r ~ ".x, s" ~ r ~ ".y)" }});
        let shrink{{ r }} = exp2(top{{ r }} - new_top{{ r }});
        top{{ r }} = new_top{{ r }};
        var p{{ r }} = select({{ reals }}(), exp2(s{{ r }} - new_top{{ r }}), seen{{ r }});
        total{{ r }} = total{{ r }} * shrink{{ r }} + (p{{ r }}.x + p{{ r }}.y{{ " + p" ~ r ~ ".z + p" ~ r ~ ".w" if ahead == 4 }});
        if has_dropout {
            p{{ r }} *= {{ four(reals, "kept(at, ", "own" ~ r, "other") }};
        }
//% endfor
        {{ weigh("o", "p", "v", true) }}
    }
//% for r in range(own)
//% for c in range(width // 4)
    o{{ r }}_{{ c }} /= total{{ r }};
//% endfor
    if own{{ r }} < params.length {
        stats[at.replica * params.stride_stats + statistic(at, own{{ r }})] = (top{{ r }} + log2(total{{ r }})) * LN_2;
    }
//% endfor
    {{ store("out", "o") }}
}

@compute @workgroup_size(8)
fn queries_{{ width }}{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = task(group, groups, {{ 8 * own }}u);
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
    {{ places() }}
    {{ own_rows("q") }}
    {{ own_rows("error") }}
//% for r in range(own)
    var dot{{ r }} = 0.0;
//% endfor
    // A loop, with errors read again, since what takes a compiler long is the number of loads.
    for (var col = 0u; col < params.width; col += 4u) {
//% for r in range(own)
        dot{{ r }} += dot(error_at{{ quads }}(base_error, own{{ r }}, col), attended_at{{ quads }}(base_attended, own{{ r }}, col));
//% endfor
    }
//% for r in range(own)
    if own{{ r }} < params.length {
        dots[at.replica * params.stride_dots + statistic(at, own{{ r }})] = dot{{ r }};
    }
//% endfor
    {{ sums("o") }}
    let end = select(params.length, min(params.length, at.first + {{ 8 * own }}u), causal);
    for (var other = 0u; other < end; other += {{ ahead }}u) {
        {{ load("k", "qkv", "params.pitch_k") }}
        {{ load("v", "qkv", "params.pitch_v") }}
        {{ product("s", "q", "k") }}
        {{ product("e", "error", "v") }}
//% for r in range(own)
        let seen{{ r }} = {{ four(bools, "sees(", "own" ~ r, "other") }};
        let p{{ r }} = select({{ reals }}(), exp2({{ quad("s", r) }} * params.scale_log2 - stat{{ r }}), seen{{ r }});
        var e{{ r }} = {{ quad("e", r) }};
        if has_dropout {
            e{{ r }} *= {{ four(reals, "kept(at, ", "own" ~ r, "other") }};
        }
        let w{{ r }} = p{{ r }} * (e{{ r }} - dot{{ r }}) * params.scale;
//% endfor
        {{ weigh("o", "w", "k", false) }}
    }
    {{ store("dq", "o") }}
}

@compute @workgroup_size(8)
fn keys_{{ width }}{{ quads }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = task(group, groups, {{ 8 * own }}u);
    let base_q = base_q(at);
    let base_k = base_k(at);
    let base_v = base_v(at);
    let base_error = base_error(at);
    let last = params.length - 1u;
//% for r in range(own)
    let own{{ r }} = at.first + {{ 8 * r }}u + lane;
//% endfor
    {{ places() }}
    {{ own_rows("k") }}
    {{ own_rows("v") }}
    {{ sums("a") }}
    {{ sums("b") }}
    // Earlier queries see none of the keys.
    for (var other = select(0u, at.first, causal); other < params.length; other += {{ ahead }}u) {
        {{ load("q", "qkv", "params.pitch_q") }}
        {{ load("error", "error", wide) }}
        let place = statistic(at, min(other + lane % {{ ahead }}u, last));
        let stat = LOG2_E * row_stats[at.replica * params.stride_row_stats + place];
        let own_dot = row_dots[at.replica * params.stride_row_dots + place];
        let stat_of = {{ reals }}(
//% for n in range(ahead)
            subgroupBroadcast(stat, {{ n }}u),
//% endfor
        );
        let dot_of = {{ reals }}(
//% for n in range(ahead)
            subgroupBroadcast(own_dot, {{ n }}u),
//% endfor
        );
        {{ product("s", "k", "q") }}
        {{ product("e", "v", "error") }}
//% for r in range(own)
        let seen{{ r }} = {{ four(bools, "is_seen(", "own" ~ r, "other") }};
        var p{{ r }} = select({{ reals }}(), exp2({{ quad("s", r) }} * params.scale_log2 - stat_of), seen{{ r }});
        var w{{ r }} = p{{ r }} * params.scale;
        if has_dropout {
            let kept{{ r }} = {{ four(reals, "kept(at, ", "other", "own" ~ r) }};
            w{{ r }} *= kept{{ r }} * {{ quad("e", r) }} - dot_of;
            p{{ r }} *= kept{{ r }};
        } else {
            w{{ r }} *= {{ quad("e", r) }} - dot_of;
        }
//% endfor
        {{ weigh("b", "p", "error", false) }}
        {{ weigh("a", "w", "q", false) }}
    }
    {{ store("dk", "a") }}
    {{ store("dv", "b") }}
}

//% endfor
