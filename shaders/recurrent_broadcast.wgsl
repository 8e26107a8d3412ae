// Recurrences for software adapters with subgroups of eight lanes; see src/ops/recurrent.rs.
//
// A workgroup owns the sequences of 16 or 32 samples. Lanes lie along units, or ranks; they load different samples' numbers and
// pass them round. Sums then wait in workgroup memory, where each lane finds its own, so that what a cell makes of them is written
// once and not for every sample.
//% include "recurrent.wgsl"

const LANES = 8u;

var<workgroup> sums: array<f32, 4096>;

// sum<r>_<c> += rows of `x` by columns of `b`, both functions of an index along `inner`; `rows` samples, `columns` times eight
// columns.
//% macro product(rows, columns, inner, steps)
//% for r in range(rows)
//% for c in range(columns)
        var sum{{ r }}_{{ c }} = 0.0;
//% endfor
//% endfor
        for (var k = 0u; k < {{ inner }}; k += {{ steps }}u) {
//% for i in range(steps)
//% for g in range(rows // 8)
            let x{{ g }}_{{ i }} = {{ caller(g, i, none) }};
//% endfor
//% for c in range(columns)
            let b{{ c }}_{{ i }} = {{ caller(none, i, c) }};
//% endfor
//% endfor
//% for r in range(rows)
//% for i in range(steps)
            let f{{ r }}_{{ i }} = subgroupBroadcast(x{{ r // 8 }}_{{ i }}, {{ r % 8 }}u);
//% endfor
//% for c in range(columns)
            sum{{ r }}_{{ c }} = sum{{ r }}_{{ c }}
//% for i in range(steps)
                + f{{ r }}_{{ i }} * b{{ c }}_{{ i }}
//% endfor
                ;
//% endfor
//% endfor
        }
//% for r in range(rows)
//% for c in range(columns)
        sums[{{ (r * columns + c) * 8 }}u + lane] = sum{{ r }}_{{ c }};
//% endfor
//% endfor
//% endmacro
//% for rows in [16, 32]
//% for name, steps in [("", 1), ("_quads", 4)]
//% for gates in [1, 3, 4]
// ---- forward with {{ gates }} gates a unit, of {{ rows }} samples ----

@compute @workgroup_size(LANES)
fn forward_{{ rows }}_{{ gates }}{{ name }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let at = place(group, groups, {{ rows }}u);
    let first_sample = at.sample;
    if first_sample >= params.samples {
        return;
    }
    let width = params.width;
    let base = replica * params.stride_weight;
    // Samples and units past the edge repeat the last ones; what they compute is not stored.
//% for g in range(rows // 8)
    let first{{ g }} = replica * params.stride_out + min(first_sample + {{ 8 * g }}u + lane, params.samples - 1u) * params.length * width;
//% endfor
    for (var step = params.first; step < params.first + params.steps; step++) {
        let inner = select(0u, width, step > 0u);
//% for g in range(rows // 8)
        let at{{ g }} = first{{ g }} + max(step, 1u) * width - width;
//% endfor
        for (var tile = at.begin; tile < at.end; tile++) {
            let first_unit = tile * 16u;
//% for g in range(gates)
//% for c in range(2)
        let w{{ 2 * g + c }} = base + ({{ g }}u * width + min(first_unit + {{ 8 * c }}u + lane, width - 1u)) * width;
//% endfor
//% endfor
//% call(g, i, c) product(rows, 2 * gates, "inner", steps)
{{- "weight[w" ~ c ~ " + k + " ~ i ~ "u]" if g is none else "out[at" ~ g ~ " + k + " ~ i ~ "u]" -}}
//% endcall
            for (var r = 0u; r < min({{ rows }}u, params.samples - first_sample); r++) {
                for (var c = 0u; c < 2u; c++) {
                    let unit = first_unit + c * 8u + lane;
                    let at = (r * {{ 2 * gates }}u + c) * 8u + lane;
                    if unit < width {
                        advance(replica, first_sample + r, step, unit, vec4<f32>(
//% for g in range(4)
                            {{ "sums[at + " ~ 16 * g ~ "u]" if g < gates else "0.0" }},
//% endfor
                        ));
                    }
                }
            }
        }
        storageBarrier();
    }
}

//% endfor
//% for factored in [false, true]
//% set source = "q" if factored else "weight"
// ---- back through {{ "p and q" if factored else "a whole weight" }}, of {{ rows }} samples ----
//
// `behind` is the step that errors come from, of which the gates' errors are known.

@compute @workgroup_size(LANES)
fn back_{{ rows }}_{{ "factored" if factored else "whole" }}{{ name }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let at = place(group, groups, {{ rows }}u);
    let first_sample = at.sample;
    if first_sample >= params.samples {
        return;
    }
    let width = params.width;
    let samples = min({{ rows }}u, params.samples - first_sample);
    let base = replica * params.stride_{{ source }};
    let base_sent = replica * select(params.stride_gates, params.stride_hidden, cell == GRU);
//% for g in range(rows // 8)
    let row{{ g }} = min(first_sample + {{ 8 * g }}u + lane, params.samples - 1u) * params.length;
//% endfor
    for (var taken = 0u; taken < params.steps; taken++) {
        let behind = params.first - taken;
        // Where nothing lies behind nothing is read: sums of no terms.
        let last = min(behind, params.length - 1u);
//% for g in range(rows // 8)
        let sent{{ g }} = base_sent + (row{{ g }} + last) * params.gates;
//% endfor
//% if factored
        let all = select(0u, params.gates, behind < params.length);
        for (var rank = 0u; rank < select(0u, params.rank, behind < params.length); rank += 16u) {
//% for c in range(2)
        let p{{ c }} = replica * params.stride_p + min(rank + {{ 8 * c }}u + lane, params.rank - 1u);
//% endfor
//% call(g, i, c) product(rows, 2, "all", steps)
{{- "p[p" ~ c ~ " + (k + " ~ i ~ "u) * params.rank]" if g is none else "sent(sent" ~ g ~ " + k + " ~ i ~ "u)" -}}
//% endcall
            for (var r = 0u; r < samples; r++) {
                for (var c = 0u; c < 2u; c++) {
                    let own = rank + c * 8u + lane;
                    if own < params.rank {
                        let row = (first_sample + r) * params.length + last;
                        y[replica * params.stride_y + row * params.rank + own] = sums[(r * 2u + c) * 8u + lane];
                    }
                }
            }
        }
        storageBarrier();
//% for g in range(rows // 8)
        let y{{ g }} = replica * params.stride_y + (row{{ g }} + last) * params.rank;
//% endfor
//% endif
        if behind == 0u {
            return;
        }
        let step = behind - 1u;
        let inner = select(0u, {{ "params.rank" if factored else "params.gates" }}, is_reached(step));
        for (var tile = at.begin; tile < at.end; tile++) {
            let first_unit = tile * 32u;
//% for c in range(4)
        let b{{ c }} = base + min(first_unit + {{ 8 * c }}u + lane, width - 1u);
//% endfor
//% call(g, i, c) product(rows, 4, "inner", steps)
{{- source ~ "[b" ~ c ~ " + (k + " ~ i ~ "u) * width]" if g is none else ("y[y" if factored else "sent(sent") ~ g ~ " + k + " ~ i ~ ("u]" if factored else "u)") -}}
//% endcall
            for (var r = 0u; r < samples; r++) {
                for (var c = 0u; c < 4u; c++) {
                    let unit = first_unit + c * 8u + lane;
                    if unit < width {
                        retreat(replica, first_sample + r, step, unit, sums[(r * 4u + c) * 8u + lane]);
                    }
                }
            }
        }
        storageBarrier();
    }
}

//% endfor
//% endfor
//% endfor
