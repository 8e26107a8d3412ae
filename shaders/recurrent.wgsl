// Recurrences for GPUs; see src/ops/recurrent.rs.
//
// A workgroup owns the sequences of 16 samples. It goes through their steps, and at each through tiles of 64 units; what the
// step before has left is read from memory, where this workgroup alone has written it. Where every step is a dispatch, a
// workgroup may own one tile.
//% include "recurrent.wgsl"

const ROWS = 16u;
const UNITS = 64u;
// Of the sums, fetched at once.
const DEPTH = 8u;

// Up to four gates of a tile's units; and of every column the 16 rows.
var<workgroup> tile_weight: array<f32, 2048>;
var<workgroup> tile_rows: array<vec4<f32>, 64>;

//% for gates in [1, 3, 4]
// ---- forward with {{ gates }} gates a unit: an invocation owns a unit of four samples ----

@compute @workgroup_size(256)
fn forward_{{ gates }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let at = place(group, groups, ROWS);
    let first_sample = at.sample;
    if first_sample >= params.samples {
        return;
    }
    let own_unit = lane % UNITS;
    let own_rows = lane / UNITS;
    let width = params.width;
    for (var step = params.first; step < params.first + params.steps; step++) {
        for (var tile = at.begin; tile < at.end; tile++) {
            let first_unit = tile * UNITS;
//% for g in range(gates)
            var sum{{ g }} = vec4<f32>();
//% endfor
            for (var k = 0u; k < select(0u, width, step > 0u); k += DEPTH) {
                for (var i = lane; i < {{ gates }}u * UNITS * DEPTH; i += 256u) {
                    let unit = first_unit + i / DEPTH % UNITS;
                    let at_k = k + i % DEPTH;
                    var value = 0.0;
                    if unit < width && at_k < width {
                        value = weight[replica * params.stride_weight + (i / (DEPTH * UNITS) * width + unit) * width + at_k];
                    }
                    tile_weight[(i / (DEPTH * UNITS) * DEPTH + i % DEPTH) * UNITS + i / DEPTH % UNITS] = value;
                }
                if lane < ROWS * DEPTH {
                    let sample = first_sample + lane / DEPTH;
                    let at_k = k + lane % DEPTH;
                    var value = 0.0;
                    if sample < params.samples && at_k < width {
                        value = out[replica * params.stride_out + (sample * params.length + step - 1u) * width + at_k];
                    }
                    tile_rows[lane % DEPTH * 4u + lane / DEPTH / 4u][lane / DEPTH % 4u] = value;
                }
                workgroupBarrier();
                for (var i = 0u; i < DEPTH; i++) {
                    let states = tile_rows[i * 4u + own_rows];
//% for g in range(gates)
                    sum{{ g }} += tile_weight[({{ g }}u * DEPTH + i) * UNITS + own_unit] * states;
//% endfor
                }
                workgroupBarrier();
            }
            let unit = first_unit + own_unit;
//% for r in range(4)
            let sample{{ r }} = first_sample + own_rows * 4u + {{ r }}u;
            if unit < width && sample{{ r }} < params.samples {
                advance(replica, sample{{ r }}, step, unit, vec4<f32>(
//% for g in range(4)
                    {{ "sum" ~ g ~ "." ~ "xyzw"[r] if g < gates else "0.0" }},
//% endfor
                ));
            }
//% endfor
        }
        storageBarrier();
        workgroupBarrier();
    }
}

//% endfor
//% for factored in [false, true]
//% set source = "weight" if not factored else "q"
// ---- back through {{ "p and q" if factored else "a whole weight" }} ----
//
// `behind` is the step that errors come from, of which the gates' errors are known.

@compute @workgroup_size(256)
fn back_{{ "factored" if factored else "whole" }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let at = place(group, groups, ROWS);
    let first_sample = at.sample;
    if first_sample >= params.samples {
        return;
    }
    let own_unit = lane % UNITS;
    let own_rows = lane / UNITS;
    let width = params.width;
    let base_sent = replica * select(params.stride_gates, params.stride_hidden, cell == GRU);
    for (var taken = 0u; taken < params.steps; taken++) {
        let behind = params.first - taken;
//% if factored
        // Project: an invocation owns a rank of a sample.
        let own_rank = lane % 16u;
        let own_sample = lane / 16u;
        for (var rank = 0u; rank < select(0u, params.rank, behind < params.length); rank += 16u) {
            var sum = 0.0;
            for (var k = 0u; k < params.gates; k += 16u) {
                let sample = first_sample + own_sample;
                // Lanes side by side read a row of the errors, and of p.
                let at_k = k + own_rank;
                var value = 0.0;
                if sample < params.samples && at_k < params.gates {
                    let row = sample * params.length + behind;
                    value = sent(base_sent + row * params.gates + at_k);
                }
                tile_rows[lane / 4u][lane % 4u] = value;
                value = 0.0;
                if k + own_sample < params.gates && rank + own_rank < params.rank {
                    value = p[replica * params.stride_p + (k + own_sample) * params.rank + rank + own_rank];
                }
                tile_weight[lane] = value;
                workgroupBarrier();
                for (var i = 0u; i < 4u; i++) {
                    let errors = tile_rows[own_sample * 4u + i];
                    let at = 64u * i + own_rank;
                    sum += errors.x * tile_weight[at] + errors.y * tile_weight[at + 16u]
                        + errors.z * tile_weight[at + 32u] + errors.w * tile_weight[at + 48u];
                }
                workgroupBarrier();
            }
            let sample = first_sample + own_sample;
            if sample < params.samples && rank + own_rank < params.rank {
                y[replica * params.stride_y + (sample * params.length + behind) * params.rank + rank + own_rank] = sum;
            }
        }
        storageBarrier();
        workgroupBarrier();
//% endif
        if behind == 0u {
            return;
        }
        let step = behind - 1u;
        let inner = select(0u, {{ "params.rank" if factored else "params.gates" }}, is_reached(step));
        for (var tile = at.begin; tile < at.end; tile++) {
            let first_unit = tile * UNITS;
            var passed = vec4<f32>();
            for (var k = 0u; k < inner; k += DEPTH) {
                for (var i = lane; i < UNITS * DEPTH; i += 256u) {
                    let unit = first_unit + i % UNITS;
                    let at_k = k + i / UNITS;
                    var value = 0.0;
                    if unit < width && at_k < inner {
                        value = {{ source }}[replica * params.stride_{{ source }} + at_k * width + unit];
                    }
                    tile_weight[i] = value;
                }
                if lane < ROWS * DEPTH {
                    let sample = first_sample + lane / DEPTH;
                    let at_k = k + lane % DEPTH;
                    var value = 0.0;
                    if sample < params.samples && at_k < inner {
                        let row = sample * params.length + behind;
//% if factored
                        value = y[replica * params.stride_y + row * params.rank + at_k];
//% else
                        value = sent(base_sent + row * params.gates + at_k);
//% endif
                    }
                    tile_rows[lane % DEPTH * 4u + lane / DEPTH / 4u][lane / DEPTH % 4u] = value;
                }
                workgroupBarrier();
                for (var i = 0u; i < DEPTH; i++) {
                    passed += tile_weight[i * UNITS + own_unit] * tile_rows[i * 4u + own_rows];
                }
                workgroupBarrier();
            }
            let unit = first_unit + own_unit;
//% for r in range(4)
            let sample{{ r }} = first_sample + own_rows * 4u + {{ r }}u;
            if unit < width && sample{{ r }} < params.samples {
                retreat(replica, sample{{ r }}, step, unit, passed.{{ "xyzw"[r] }});
            }
//% endfor
        }
        storageBarrier();
        workgroupBarrier();
    }
}

//% endfor
