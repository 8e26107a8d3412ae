// Part of the products for adapters whose lanes are those of a CPU, where shared memory is a detour through the cache
// and every load costs the same, whether lanes agree on its address or not.
//
// No shared memory: eight lanes lie along the columns, `wide` adjacent ones each, and keep their sums in registers. A
// sum is touched once for four steps along the inner dimension. `subgroups` is set by the file that includes this one:
// with it the lanes load different elements of a and pass them round, without it all load the same. With `window` the
// products are those of a convolution: the turned kernels the weight's gradient, the others one run of channels a tap.
//% include "product.wgsl"

const LANES = 8u;

//% for rows, wide, runs in sizes
//% set letters = "xyzw"[:wide]
//% set sum_type = "vec" ~ wide ~ "<f32>"
//% set columns = 8 * wide * runs
//% for turned in [false, true]
//% set windowed = window is defined
//% set name = kind ~ "_" ~ rows ~ "x" ~ columns ~ ("_turned" if turned else "")
// ---- {{ name }}: a is {{ "inner x rows" if turned else "rows x inner" }} ----

@compute @workgroup_size(LANES)
fn {{ name }}_quads(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = place(group, groups, {{ rows }}u, {{ columns }}u);
    if !exact && at.row >= params.rows {
        return;
    }
    // Rows and columns past the edge repeat the last ones; what they compute is not stored.
    let base_a = group.z * params.stride_a / 4u;
//% if turned
    let pitch_a = params.rows / 4u;
    let last_a = pitch_a - 1u;
//% for g in range((rows + 31) // 32 if subgroups else rows // 4)
    var a{{ g }} = base_a + at.begin * pitch_a + min(at.row / 4u + {{ g * 8 ~ "u + lane" if subgroups else g ~ "u" }}, last_a);
//% endfor
//% else
    let pitch_a = params.inner / 4u;
    let last_a = params.rows - 1u;
//% for g in range(rows // 8 if subgroups else rows)
    let row{{ g }} = min(at.row + {{ g * 8 ~ "u + lane" if subgroups else g ~ "u" }}, last_a);
//% if windowed
    let spot{{ g }} = spot(row{{ g }});
//% else
    var a{{ g }} = base_a + at.begin / 4u + row{{ g }} * pitch_a;
//% endif
//% endfor
//% endif
    let base_b = group.z * params.stride_b / 4u;
    let pitch_b = select({{ "params.taps * params.cols" if windowed else "params.cols" }}, params.inner, transpose_b) / 4u;
    let col = at.col + lane * {{ wide }}u;
//% for c in range(runs)
    let col{{ c }} = min(col + {{ 8 * wide * c }}u, params.cols - {{ wide }}u);
//% if windowed and turned
    let tap{{ c }} = tap_at(col{{ c }} / params.channels);
    let within{{ c }} = base_b + col{{ c }} % params.channels / 4u;
//% elif not windowed
    var b{{ c }} = base_b + select(at.begin * pitch_b + col{{ c }} / 4u, col{{ c }} * pitch_b + at.begin / 4u, transpose_b);
//% endif
//% endfor
//% for r in range(rows)
//% for c in range(runs)
    var sum{{ r }}_{{ c }} = {{ sum_type }}();
//% endfor
//% endfor
//% set totals = ((rows + 31) // 32 if subgroups else rows // 4) if turned else (rows // 8 if subgroups else rows)
//% for g in range(totals)
    var total{{ g }} = {{ "vec4<f32>()" if turned else "0.0" }};
//% endfor
//% if windowed and turned
    var here = spot(at.begin);
//% endif
//% if windowed and not turned
    for (var run = 0u; run < params.taps; run++) {
    let tap = tap_at(run);
//% for g in range(totals)
    let source{{ g }} = below(spot{{ g }}, tap);
    let seen{{ g }} = source{{ g }} >= 0;
    var a{{ g }} = base_a + u32(max(source{{ g }}, 0)) * (params.channels / 4u);
//% endfor
//% for c in range(runs)
    var b{{ c }} = base_b + select(run * params.cols + col{{ c }}, col{{ c }} * params.inner + run * params.channels, transpose_b) / 4u;
//% endfor
    for (var k = 0u; k < params.channels; k += 4u) {
//% else
    for (var k = at.begin; k < at.end; k += 4u) {
//% endif
//% if turned
//% for g in range(totals)
//% for i in range(4)
        let x{{ g }}_{{ i }} = a_quads[a{{ g }} + {{ i }}u * pitch_a];
//% endfor
        a{{ g }} += 4u * pitch_a;
        total{{ g }} += x{{ g }}_0 + x{{ g }}_1 + x{{ g }}_2 + x{{ g }}_3;
//% endfor
//% else
//% for g in range(totals)
        let x{{ g }} = {{ "select(vec4<f32>(), a_quads[a" ~ g ~ "], seen" ~ g ~ ")" if windowed else "a_quads[a" ~ g ~ "]" }};
        a{{ g }} += 1u;
        total{{ g }} += x{{ g }}.x + x{{ g }}.y + x{{ g }}.z + x{{ g }}.w;
//% endfor
//% endif
        // y<i>: row k + i of op(b).
//% if windowed and turned
//% for i in range(4)
//% for c in range(runs)
        let source{{ i }}_{{ c }} = below(here, tap{{ c }});
        let {{ "pqrs"[i] }}{{ c }} = select(vec4<f32>(), b_quads[within{{ c }} + u32(max(source{{ i }}_{{ c }}, 0)) * (params.channels / 4u)], source{{ i }}_{{ c }} >= 0);
//% endfor
        here = next(here);
//% endfor
//% endif
//% for c in range(runs)
//% if not (windowed and turned)
        let p{{ c }} = b_quads[b{{ c }}];
        let q{{ c }} = b_quads[b{{ c }} + pitch_b];
        let r{{ c }} = b_quads[b{{ c }} + 2u * pitch_b];
        let s{{ c }} = b_quads[b{{ c }} + 3u * pitch_b];
        b{{ c }} += select(4u * pitch_b, 1u, transpose_b);
//% endif
//% for i in range(4)
//% if wide == 4
        let y{{ c }}_{{ i }} = select({{ "pqrs"[i] }}{{ c }}, vec4<f32>(p{{ c }}.{{ "xyzw"[i] }}, q{{ c }}.{{ "xyzw"[i] }}, r{{ c }}.{{ "xyzw"[i] }}, s{{ c }}.{{ "xyzw"[i] }}), transpose_b);
//% else
        let y{{ c }}_{{ i }} = select(select({{ "pqrs"[i] }}{{ c }}.xy, {{ "pqrs"[i] }}{{ c }}.zw, col{{ c }} % 4u == 2u), vec2<f32>(p{{ c }}.{{ "xyzw"[i] }}, q{{ c }}.{{ "xyzw"[i] }}), transpose_b);
//% endif
//% endfor
//% endfor
//% for r in range(rows)
//% for i in range(4)
//% if turned and subgroups
        let x{{ r }}_at_{{ i }} = subgroupBroadcast(x{{ r // 32 }}_{{ i }}.{{ "xyzw"[r % 4] }}, {{ r % 32 // 4 }}u);
//% elif turned
        let x{{ r }}_at_{{ i }} = x{{ r // 4 }}_{{ i }}.{{ "xyzw"[r % 4] }};
//% elif subgroups
        let x{{ r }}_at_{{ i }} = subgroupBroadcast(x{{ r // 8 }}.{{ "xyzw"[i] }}, {{ r % 8 }}u);
//% else
        let x{{ r }}_at_{{ i }} = x{{ r }}.{{ "xyzw"[i] }};
//% endif
//% endfor
//% for c in range(runs)
        sum{{ r }}_{{ c }} = sum{{ r }}_{{ c }} + x{{ r }}_at_0 * y{{ c }}_0 + x{{ r }}_at_1 * y{{ c }}_1 + x{{ r }}_at_2 * y{{ c }}_2 + x{{ r }}_at_3 * y{{ c }}_3;
//% endfor
//% endfor
    }
//% if windowed and not turned
    }
//% endif
//% for r in range(rows)
//% for c in range(runs)
//% if wide == 4
    store_quad(group.z, at, at.row + {{ r }}u, col + {{ 32 * c }}u, sum{{ r }}_{{ c }});
//% else
//% for letter in letters
    store(group.z, at, at.row + {{ r }}u, col + {{ 8 * wide * c + loop.index0 }}u, sum{{ r }}_{{ c }}.{{ letter }});
//% endfor
//% endif
//% endfor
//% endfor
    if has_sums && at.col == 0u {
//% for g in range(totals)
//% for i in range(4 if turned else 1)
//% set row = ("at.row + " ~ (g * 8 ~ "u + lane" if subgroups else g ~ "u")) if not turned else ("at.row + " ~ ((g * 32 + i) ~ "u + lane * 4u" if subgroups else (g * 4 + i) ~ "u"))
        if {{ row }} < min(params.rows, at.row + {{ rows }}u) {
            store_sum(at, {{ row }}, total{{ g }}{{ "." ~ "xyzw"[i] if turned }});
        }
//% endfor
//% endfor
    }
}

@compute @workgroup_size(LANES)
fn {{ name }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = place(group, groups, {{ rows }}u, {{ columns }}u);
    if !exact && at.row >= params.rows {
        return;
    }
    let base_a = group.z * params.stride_a;
    let last_a = params.rows - 1u;
    let pitch_a = {{ "1u" if turned else "params.inner" }};
    let step_a = {{ "params.rows" if turned else "1u" }};
//% for g in range(rows // 8 if subgroups else rows)
    let row{{ g }} = min(at.row + {{ g * 8 ~ "u + lane" if subgroups else g ~ "u" }}, last_a);
//% if windowed and not turned
    let spot{{ g }} = spot(row{{ g }});
//% else
    var a{{ g }} = base_a + at.begin * step_a + row{{ g }} * pitch_a;
//% endif
//% endfor
    let base_b = group.z * params.stride_b;
    let last_col = vec{{ wide }}<u32>(params.cols - 1u);
    let pitch_b = select(1u, params.inner, transpose_b);
    let step_b = select({{ "params.taps * params.cols" if windowed else "params.cols" }}, 1u, transpose_b);
    let col = at.col + lane;
    // Columns eight apart: loads and stores of all lanes are neighbours.
    let begin_b = base_b + at.begin * step_b;
//% for c in range(runs)
    let cols{{ c }} = min(col + vec{{ wide }}<u32>(
//% for i in range(wide)
        {{ 8 * (wide * c + i) }}u,
//% endfor
    ), last_col);
//% if windowed and turned
    let within{{ c }} = base_b + cols{{ c }} % params.channels;
//% for i in range(wide)
    let tap{{ c }}_{{ i }} = tap_at(cols{{ c }}.{{ "xyzw"[i] }} / params.channels);
//% endfor
//% elif not windowed
    var b{{ c }} = begin_b + cols{{ c }} * pitch_b;
//% endif
//% endfor
//% for r in range(rows)
//% for c in range(runs)
    var sum{{ r }}_{{ c }} = {{ sum_type }}();
//% endfor
//% endfor
//% for g in range(rows // 8 if subgroups else rows)
    var total{{ g }} = 0.0;
//% endfor
//% if windowed and turned
    var here = spot(at.begin);
//% endif
//% if windowed and not turned
    for (var run = 0u; run < params.taps; run++) {
    let tap = tap_at(run);
//% for g in range(rows // 8 if subgroups else rows)
    let source{{ g }} = below(spot{{ g }}, tap);
    let seen{{ g }} = source{{ g }} >= 0;
    var a{{ g }} = base_a + u32(max(source{{ g }}, 0)) * params.channels;
//% endfor
//% for c in range(runs)
    var b{{ c }} = base_b + cols{{ c }} * pitch_b + run * select(params.cols, params.channels, transpose_b);
//% endfor
    for (var k = 0u; k < params.channels; k++) {
//% else
    for (var k = at.begin; k < at.end; k++) {
//% endif
//% for g in range(rows // 8 if subgroups else rows)
        let x{{ g }} = {{ "select(0.0, a[a" ~ g ~ "], seen" ~ g ~ ")" if windowed and not turned else "a[a" ~ g ~ "]" }};
        a{{ g }} += step_a;
        total{{ g }} += x{{ g }};
//% endfor
//% for c in range(runs)
//% if windowed and turned
//% for i in range(wide)
        let source{{ c }}_{{ i }} = below(here, tap{{ c }}_{{ i }});
        let y{{ c }}_{{ i }} = select(0.0, b[within{{ c }}.{{ "xyzw"[i] }} + u32(max(source{{ c }}_{{ i }}, 0)) * params.channels], source{{ c }}_{{ i }} >= 0);
//% endfor
        let y{{ c }} = {{ sum_type }}(
//% for i in range(wide)
            y{{ c }}_{{ i }},
//% endfor
        );
//% else
        let y{{ c }} = {{ sum_type }}(
//% for letter in letters
            b[b{{ c }}.{{ letter }}],
//% endfor
        );
        b{{ c }} += step_b;
//% endif
//% endfor
//% if windowed and turned
        here = next(here);
//% endif
//% for r in range(rows)
        let x_of_{{ r }} = {{ "subgroupBroadcast(x" ~ r // 8 ~ ", " ~ r % 8 ~ "u)" if subgroups else "x" ~ r }};
//% for c in range(runs)
        sum{{ r }}_{{ c }} += x_of_{{ r }} * y{{ c }};
//% endfor
//% endfor
    }
//% if windowed and not turned
    }
//% endif
//% for r in range(rows)
//% for c in range(runs)
//% for i in range(wide)
    store(group.z, at, at.row + {{ r }}u, col + {{ 8 * (wide * c + i) }}u, sum{{ r }}_{{ c }}.{{ letters[i] }});
//% endfor
//% endfor
//% endfor
    if has_sums && at.col == 0u {
//% for g in range(rows // 8 if subgroups else rows)
//% set row = "at.row + " ~ (g * 8 ~ "u + lane" if subgroups else g ~ "u")
        if {{ row }} < params.rows {
            store_sum(at, {{ row }}, total{{ g }});
        }
//% endfor
    }
}

//% endfor
//% endfor
