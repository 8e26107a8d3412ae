// Losses, targets and metrics; see src/ops/loss.rs.
//% include "common.wgsl"

struct Params {
    // of the outputs: samples x positions
    rows: u32,
    cols: u32,
    // of a sample
    positions: u32,
    // of numbers
    scale: f32,
    tolerance: f32,
    // of the target: the label's own part, and every class's
    label_share: f32,
    class_share: f32,
    stride_outputs: u32,
    stride_labels: u32,
    stride_losses: u32,
    stride_correct: u32,
    stride_delta: u32,
    stride_out: u32,
    stride_metrics: u32,
    stride_fault: u32,
    stride_row_losses: u32,
    stride_row_correct: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> outputs: array<f32>;
@group(1) @binding(2) var<storage, read> labels: array<u32>;
@group(1) @binding(3) var<storage, read_write> delta: array<f32>;
@group(1) @binding(4) var<storage, read_write> losses: array<f32>;
@group(1) @binding(5) var<storage, read_write> correct: array<f32>;
@group(1) @binding(6) var<storage, read_write> out: array<f32>;
@group(1) @binding(7) var<storage, read_write> metrics: array<f32>;
@group(1) @binding(8) var<storage, read_write> fault: array<u32>;
// what the losses above wrote
@group(1) @binding(9) var<storage, read> row_losses: array<f32>;
@group(1) @binding(10) var<storage, read> row_correct: array<f32>;

override has_smoothing: bool = false;

fn active_rows() -> u32 {
    return now.active_rows * params.positions;
}

// Index of the first largest output of a row.
fn prediction(base: u32) -> u32 {
    var best = 0u;
    for (var col = 1u; col < params.cols; col++) {
        if outputs[base + col] > outputs[base + best] {
            best = col;
        }
    }
    return best;
}

fn absent(replica: u32, row: u32) {
    losses[replica * params.stride_losses + row] = 0.0;
    correct[replica * params.stride_correct + row] = 0.0;
    for (var col = 0u; col < params.cols; col++) {
        delta[replica * params.stride_delta + row * params.cols + col] = 0.0;
    }
}

@compute @workgroup_size(64)
fn softmax_cross_entropy(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let row = linear_group(group, groups) * 64u + lane;
    if row >= params.rows {
        return;
    }
    if row >= active_rows() {
        absent(replica, row);
        return;
    }
    let base = replica * params.stride_outputs + row * params.cols;
    let label = labels[replica * params.stride_labels + row];
    let best = prediction(base);
    let top = outputs[base + best];
    var total = 0.0;
    for (var col = 0u; col < params.cols; col++) {
        total += exp(outputs[base + col] - top);
    }
    var expected = outputs[base + label] - top;
    if has_smoothing {
        expected *= params.label_share;
        for (var col = 0u; col < params.cols; col++) {
            expected += params.class_share * (outputs[base + col] - top);
        }
    }
    losses[replica * params.stride_losses + row] = log(total) - expected;
    correct[replica * params.stride_correct + row] = select(0.0, 1.0, best == label);
    for (var col = 0u; col < params.cols; col++) {
        let target_share = select(0.0, params.label_share, col == label) + params.class_share;
        delta[replica * params.stride_delta + row * params.cols + col] =
            (exp(outputs[base + col] - top) / total - target_share) / f32(active_rows());
    }
}

@compute @workgroup_size(64)
fn mean_squared_error(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let row = linear_group(group, groups) * 64u + lane;
    if row >= params.rows {
        return;
    }
    if row >= active_rows() {
        absent(replica, row);
        return;
    }
    let base = replica * params.stride_outputs + row * params.cols;
    let label = labels[replica * params.stride_labels + row];
    var total = 0.0;
    for (var col = 0u; col < params.cols; col++) {
        let miss = outputs[base + col] - select(0.0, 1.0, col == label);
        total += miss * miss;
        delta[replica * params.stride_delta + row * params.cols + col] =
            2.0 * miss / (f32(active_rows()) * f32(params.cols));
    }
    losses[replica * params.stride_losses + row] = total / f32(params.cols);
    correct[replica * params.stride_correct + row] = select(0.0, 1.0, prediction(base) == label);
}

@compute @workgroup_size(64)
fn squared_distance(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let row = linear_group(group, groups) * 64u + lane;
    if row >= params.rows {
        return;
    }
    if row >= active_rows() {
        absent(replica, row);
        return;
    }
    let base = row * params.cols;
    var total = 0.0;
    var farthest = 0.0;
    for (var col = 0u; col < params.cols; col++) {
        let number = f32(labels[replica * params.stride_labels + base + col]) * params.scale;
        let miss = outputs[replica * params.stride_outputs + base + col] - number;
        total += miss * miss;
        farthest = max(farthest, abs(miss));
        delta[replica * params.stride_delta + base + col] = 2.0 * miss / (f32(active_rows()) * f32(params.cols));
    }
    losses[replica * params.stride_losses + row] = total / f32(params.cols);
    correct[replica * params.stride_correct + row] = select(0.0, 1.0, farthest <= params.tolerance);
}

@compute @workgroup_size(256)
fn one_hot(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, groups) * 256u + lane;
    if i >= params.rows * params.cols {
        return;
    }
    let row = i / params.cols;
    let hot = row < active_rows() && labels[group.z * params.stride_labels + row] == i % params.cols;
    out[group.z * params.stride_out + i] = select(0.0, 1.0, hot);
}

var<workgroup> partial: array<vec2<f32>, 256>;

@compute @workgroup_size(256)
fn tally(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let replica = group.z;
    var local = vec2<f32>();
    for (var row = lane; row < params.rows; row += 256u) {
        local += vec2<f32>(
            row_losses[replica * params.stride_row_losses + row],
            row_correct[replica * params.stride_row_correct + row],
        );
    }
    partial[lane] = local;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if lane < half {
            partial[lane] += partial[lane + half];
        }
        workgroupBarrier();
    }
    if lane != 0u || fault[replica * params.stride_fault] != 0u {
        return;
    }
    let total = partial[0];
    if !is_finite(total.x) {
        fault[replica * params.stride_fault] = now.step + 1u;
        return;
    }
    let at = replica * params.stride_metrics;
    metrics[at] += total.x;
    metrics[at + 1u] += total.y;
    metrics[at + 2u] += f32(min(active_rows(), params.rows));
}
