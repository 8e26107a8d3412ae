// Gradients of both factors of a bottleneck that follows its weight, for software adapters with subgroups of eight lanes;
// see src/ops/fit.rs.
//
// One workgroup a factor does all of it, so that nothing is handed from dispatch to dispatch. With a factor's element
// (j, x) at `at + j * by_rank + x * along`, p^T and q are alike: the gradient is gram(other) * own - target, the target
// laid out as its factor is. The gram matrix stays in registers: a lane owns every eighth of its columns.
//% include "common.wgsl"

struct Params {
    outputs: u32,
    rank: u32,
    inputs: u32,
    // first elements of p and q, and of their gradients
    at_p: u32,
    at_q: u32,
    threshold: f32,
    stride_values: u32,
    stride_gradients: u32,
    stride_w_q: u32,
    stride_p_w: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> values: array<f32>;
@group(1) @binding(2) var<storage, read> w_q: array<f32>;
@group(1) @binding(3) var<storage, read> p_w: array<f32>;
@group(1) @binding(4) var<storage, read_write> gradients: array<f32>;

override learns_p: bool = false;

struct Factor {
    at: u32,
    by_rank: u32,
    along: u32,
    length: u32,
}

//% for ranks in [8, 16]
@compute @workgroup_size(8)
fn broadcast_{{ ranks }}(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let of_p = learns_p && group.x == 0u;
    let base = group.z * params.stride_values;
    let p = Factor(base + params.at_p, 1u, params.rank, params.outputs);
    let q = Factor(base + params.at_q, params.inputs, 1u, params.inputs);
    var own = q;
    var other = p;
    if of_p {
        own = p;
        other = q;
    }
    let last = params.rank - 1u;

    // gram<i>_<h>: row i, column 8 h + lane; zero past the rank.
//% for h in range(ranks // 8)
    var at{{ h }} = other.at + min({{ 8 * h }}u + lane, last) * other.by_rank;
    let inside{{ h }} = {{ 8 * h }}u + lane <= last;
//% for i in range(ranks)
    var gram{{ i }}_{{ h }} = 0.0;
//% endfor
//% endfor
    for (var k = 0u; k < other.length; k++) {
//% for h in range(ranks // 8)
        let x{{ h }} = select(0.0, values[at{{ h }}], inside{{ h }});
        at{{ h }} += other.along;
//% endfor
//% for i in range(ranks)
        let f{{ i }} = subgroupBroadcast(x{{ i // 8 }}, {{ i % 8 }}u);
//% for h in range(ranks // 8)
        gram{{ i }}_{{ h }} += f{{ i }} * x{{ h }};
//% endfor
//% endfor
    }

    // Columns past the edge repeat the last one; what they compute is not stored.
    let base_gradients = group.z * params.stride_gradients + select(params.at_q, params.at_p, of_p);
    let base_w_q = group.z * params.stride_w_q;
    let base_p_w = group.z * params.stride_p_w;
    // Ranks of padding come last and change no bit.
    var squares = vec2<f32>();
    for (var first = 0u; first < own.length; first += 32u) {
        let col = first + lane + vec4<u32>(0u, 8u, 16u, 24u);
        let x = min(col, vec4<u32>(own.length - 1u)) * own.along;
//% for i in range(ranks)
        let at_{{ i }} = vec4<u32>(own.at + min({{ i }}u, last) * own.by_rank) + x;
        let y{{ i }} = vec4<f32>(values[at_{{ i }}.x], values[at_{{ i }}.y], values[at_{{ i }}.z], values[at_{{ i }}.w]);
//% endfor
//% for j in range(ranks)
        if {{ j }}u <= last {
            let product = subgroupBroadcast(gram0_{{ j // 8 }}, {{ j % 8 }}u) * y0
//% for i in range(1, ranks)
                + subgroupBroadcast(gram{{ i }}_{{ j // 8 }}, {{ j % 8 }}u) * y{{ i }}
//% endfor
                ;
            let at = x + {{ j }}u * own.by_rank;
            // The factor's own target is read, the other's first element beside it.
            let here = select(vec4<u32>(), at, of_p) + base_w_q;
            let there = select(at, vec4<u32>(), of_p) + base_p_w;
            let of_w_q = vec4<f32>(w_q[here.x], w_q[here.y], w_q[here.z], w_q[here.w]);
            let of_p_w = vec4<f32>(p_w[there.x], p_w[there.y], p_w[there.z], p_w[there.w]);
            let wanted = select(of_p_w, of_w_q, of_p);
            let difference = product - wanted;
//% for c in range(4)
            if col.{{ "xyzw"[c] }} < own.length {
                gradients[base_gradients + at.{{ "xyzw"[c] }}] = difference.{{ "xyzw"[c] }};
                squares += vec2<f32>(difference.{{ "xyzw"[c] }}, wanted.{{ "xyzw"[c] }}) * vec2<f32>(difference.{{ "xyzw"[c] }}, wanted.{{ "xyzw"[c] }});
            }
//% endfor
        }
//% endfor
    }

    let total = subgroupBroadcast(squares, 0u)
//% for l in range(1, 8)
        + subgroupBroadcast(squares, {{ l }}u)
//% endfor
        ;
    // What two nearly equal products leave is rounding, and goes; see src/ops/elementwise.rs.
    let drops = !(sqrt(total.x) > params.threshold * sqrt(total.y));
    for (var x = lane; x < select(0u, own.length, drops); x += 8u) {
        for (var j = 0u; j <= last; j++) {
            gradients[base_gradients + x * own.along + j * own.by_rank] *= 0.0;
        }
    }
}

//% endfor
