// The bottleneck with y in registers, for software adapters with subgroups of eight lanes; see src/ops/transport.rs.
//
// While it projects, a lane owns rows; while it mixes, it owns columns. y never leaves the registers in between: its
// elements, and those of p, are passed from lane to lane.
//% include "bottleneck.wgsl"

//% for ranks in [8, 16]
// Whether rows of delta, and of what is mixed, are whole quads.
//% for name, error_quads, quads in [("", "", ""), ("_out_quads", "", "_quads"), ("_quads", "_quads", "_quads")]
//% set halves = ranks // 8
//% set steps = 4 if error_quads else 1
@compute @workgroup_size(8)
fn broadcast_{{ ranks }}{{ name }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let first_row = linear_group(group, groups) * ROWS;
    if !exact && first_row >= params.rows {
        return;
    }
    // Rows, ranks and columns past the edge repeat the last ones; what they compute is not stored.
    let last_row = params.rows - 1u;
    let base_delta = replica * params.stride_delta;
//% for v in range(4)
    let row{{ v }} = first_row + {{ 8 * v }}u + lane;
    var at{{ v }} = (base_delta + min(row{{ v }}, last_row) * params.outputs) / {{ steps }}u;
//% for j in range(ranks)
    var y{{ v }}_{{ j }} = 0.0;
//% endfor
//% endfor
//% for h in range(halves)
    var p{{ h }} = replica * params.stride_p + min({{ 8 * h }}u + lane, params.rank - 1u);
//% endfor
    for (var k = 0u; k < params.outputs; k += {{ steps }}u) {
//% for v in range(4)
        let x{{ v }} = delta{{ error_quads }}[at{{ v }}];
        at{{ v }} += 1u;
//% endfor
//% for i in range(steps)
//% for h in range(halves)
        let p{{ h }}_{{ i }} = p[p{{ h }}];
        p{{ h }} += params.rank;
//% endfor
//% endfor
//% for j in range(ranks)
//% for i in range(steps)
        let f{{ j }}_{{ i }} = subgroupBroadcast(p{{ j // 8 }}_{{ i }}, {{ j % 8 }}u);
//% endfor
//% for v in range(4)
//% if error_quads
        y{{ v }}_{{ j }} = y{{ v }}_{{ j }} + x{{ v }}.x * f{{ j }}_0 + x{{ v }}.y * f{{ j }}_1 + x{{ v }}.z * f{{ j }}_2 + x{{ v }}.w * f{{ j }}_3;
//% else
        y{{ v }}_{{ j }} += x{{ v }} * f{{ j }}_0;
//% endif
//% endfor
//% endfor
    }
    let base_y = replica * params.stride_y;
//% for j in range(ranks)
//% for v in range(4)
    if {{ j }}u >= params.rank {
        y{{ v }}_{{ j }} = 0.0;
    } else if row{{ v }} < params.rows {
        y[base_y + row{{ v }} * params.rank + {{ j }}u] = y{{ v }}_{{ j }};
    }
//% endfor
//% endfor

    let base_q = replica * params.stride_q;
    for (var block = 0u; block < params.inputs; block += {{ 64 if quads else 32 }}u) {
//% if quads
        let col = block + lane * 4u;
//% for c in range(2)
        let at{{ c }} = (base_q + min(col + {{ 32 * c }}u, params.inputs - 4u)) / 4u;
//% for j in range(ranks)
        let q{{ j }}_{{ c }} = q_quads[at{{ c }} + min({{ j }}u, params.rank - 1u) * params.inputs / 4u];
//% endfor
//% endfor
//% else
        let col = block + lane;
        let at = base_q + min(col + vec4<u32>(0u, 8u, 16u, 24u), vec4<u32>(params.inputs - 1u));
//% for j in range(ranks)
        let at{{ j }} = at + min({{ j }}u, params.rank - 1u) * params.inputs;
        let q{{ j }}_0 = vec4<f32>(q[at{{ j }}.x], q[at{{ j }}.y], q[at{{ j }}.z], q[at{{ j }}.w]);
//% endfor
//% endif
//% for r in range(32)
//% for j in range(ranks)
        let f{{ r }}_{{ j }} = subgroupBroadcast(y{{ r // 8 }}_{{ j }}, {{ r % 8 }}u);
//% endfor
//% for c in range(2 if quads else 1)
        let sum{{ r }}_{{ c }} = f{{ r }}_0 * q0_{{ c }}
//% for j in range(1, ranks)
            + f{{ r }}_{{ j }} * q{{ j }}_{{ c }}
//% endfor
            ;
//% if quads
        store_quad(replica, first_row + {{ r }}u, col + {{ 32 * c }}u, sum{{ r }}_{{ c }});
//% else
//% for i in range(4)
        store(replica, first_row + {{ r }}u, col + {{ 8 * i }}u, sum{{ r }}_0.{{ "xyzw"[i] }});
//% endfor
//% endif
//% endfor
//% endfor
    }
}

//% endfor
//% endfor
