// y = delta p; out = epilogue(y q), y kept in shared memory; see src/ops/transport.rs.

struct Params {
    rows: u32,
    outputs: u32,
    rank: u32,
    inputs: u32,
    bound: f32,
    stride_delta: u32,
    stride_p: u32,
    stride_q: u32,
    stride_saved: u32,
    stride_y: u32,
    stride_out: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> delta: array<f32>;
@group(1) @binding(2) var<storage, read> p: array<f32>;
@group(1) @binding(3) var<storage, read> q: array<f32>;
@group(1) @binding(4) var<storage, read> saved: array<f32>;
@group(1) @binding(5) var<storage, read_write> y: array<f32>;
@group(1) @binding(6) var<storage, read_write> out: array<f32>;

override has_bound: bool = false;
override gate: u32 = 0u;

const ROWS = 16u;
const MAX_RANK = 128u;

// The squeezed errors of this workgroup's rows: ROWS x rank, row-major.
var<workgroup> squeezed: array<f32, 2048>;

@compute @workgroup_size(256)
fn plain(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let first_row = linear_group(group, groups) * ROWS;
    let base_delta = replica * params.stride_delta;
    let base_p = replica * params.stride_p;
    let base_q = replica * params.stride_q;

    // Project: one element of y an invocation, lanes along the rank so that p is read in order.
    for (var i = lane; i < ROWS * params.rank; i += 256u) {
        let row = first_row + i / params.rank;
        let col = i % params.rank;
        var sum = 0.0;
        if row < params.rows {
            for (var k = 0u; k < params.outputs; k++) {
                sum += delta[base_delta + row * params.outputs + k] * p[base_p + k * params.rank + col];
            }
            y[replica * params.stride_y + row * params.rank + col] = sum;
        }
        squeezed[i] = sum;
    }
    workgroupBarrier();

    // Mix and gate: lanes along the columns, four rows an invocation, so that each element of q serves four sums.
    let quarter = lane / 64u * 4u;
    for (var col = lane % 64u; col < params.inputs; col += 64u) {
        var sums = vec4<f32>();
        for (var k = 0u; k < params.rank; k++) {
            let factor = q[base_q + k * params.inputs + col];
            sums += factor * vec4<f32>(
                squeezed[quarter * params.rank + k],
                squeezed[(quarter + 1u) * params.rank + k],
                squeezed[(quarter + 2u) * params.rank + k],
                squeezed[(quarter + 3u) * params.rank + k],
            );
        }
        store(replica, first_row + quarter, col, sums.x);
        store(replica, first_row + quarter + 1u, col, sums.y);
        store(replica, first_row + quarter + 2u, col, sums.z);
        store(replica, first_row + quarter + 3u, col, sums.w);
    }
}

fn store(replica: u32, row: u32, col: u32, sum: f32) {
    if row >= params.rows {
        return;
    }
    let at = row * params.inputs + col;
    var value = sum;
    if has_bound {
        value = clamp(value, -params.bound, params.bound);
    }
    if gate != NONE {
        value *= derivative(gate, saved[replica * params.stride_saved + at]);
    }
    out[replica * params.stride_out + at] = value;
}
