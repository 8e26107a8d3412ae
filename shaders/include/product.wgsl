// Part of every product out = epilogue(alpha * op(a) op(b)), see src/ops/gemm.rs: parameters, tensors, epilogue.
//% include "common.wgsl"

struct Params {
    rows: u32,
    cols: u32,
    inner: u32,
    // Every split of the inner dimension is `depth` long but the last; out holds one matrix a split.
    splits: u32,
    depth: u32,
    alpha: f32,
    addend_scale: f32,
    bound: f32,
//% if half is defined
    // Powers of two, see ops::Half.
    scale_a: f32,
    scale_b: f32,
//% endif
//% if window is defined
    // Of a convolution: the grid that rows (of the weight's gradient: the sums) run over, the one that is read through the
    // window and its channels, and the window.
    grid_height: u32,
    grid_width: u32,
    source_height: u32,
    source_width: u32,
    channels: u32,
    taps: u32,
    kernel_width: u32,
    step_y: u32,
    step_x: u32,
    padding_y: u32,
    padding_x: u32,
//% endif
    stride_a: u32,
    stride_b: u32,
    stride_addend: u32,
    stride_bias: u32,
    stride_saved: u32,
    stride_out: u32,
    stride_sums: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> a: array<f32>;
@group(1) @binding(2) var<storage, read> b: array<f32>;
@group(1) @binding(3) var<storage, read> addend: array<f32>;
@group(1) @binding(4) var<storage, read> bias: array<f32>;
@group(1) @binding(5) var<storage, read> saved: array<f32>;
@group(1) @binding(6) var<storage, read_write> out: array<f32>;
@group(1) @binding(7) var<storage, read_write> sums: array<f32>;

// The same tensors where every row is whole quads.
@group(1) @binding(1) var<storage, read> a_quads: array<vec4<f32>>;
@group(1) @binding(2) var<storage, read> b_quads: array<vec4<f32>>;
@group(1) @binding(3) var<storage, read> addend_quads: array<vec4<f32>>;
@group(1) @binding(4) var<storage, read> bias_quads: array<vec4<f32>>;
@group(1) @binding(5) var<storage, read> saved_quads: array<vec4<f32>>;
@group(1) @binding(6) var<storage, read_write> out_quads: array<vec4<f32>>;

override transpose_b: bool = false;
//% if window is defined
// Which product of a convolution.
override convolution: u32 = 1u;
//% endif
override has_addend: bool = false;
override has_bias: bool = false;
override has_bound: bool = false;
override has_sums: bool = false;
// Whether out and sums are added to what they hold.
override accumulate: bool = false;
// Whether tiles cover the product with nothing left over. The kernels for lanes of a CPU then store without asking:
// under a condition every lane's store becomes a branch of its own.
override exact: bool = false;
override activation: u32 = 0u;
override gate: u32 = 0u;

//% if window is defined
const FORWARD = 1u;
const INPUT = 2u;
const WEIGHT = 3u;

// Image, row and column of a place on the grid.
fn spot(index: u32) -> vec3<u32> {
    let line = index / params.grid_width;
    return vec3<u32>(line / params.grid_height, line % params.grid_height, index % params.grid_width);
}

fn next(at: vec3<u32>) -> vec3<u32> {
    let ends_line = at.z + 1u == params.grid_width;
    let ends_image = ends_line && at.y + 1u == params.grid_height;
    return vec3<u32>(
        at.x + select(0u, 1u, ends_image),
        select(at.y + select(0u, 1u, ends_line), 0u, ends_image),
        select(at.z + 1u, 0u, ends_line),
    );
}

// Row and column of a tap.
fn tap_at(index: u32) -> vec2<u32> {
    return vec2<u32>(index / params.kernel_width, index % params.kernel_width);
}

// The row that a tap reads at a spot; negative where there is none.
fn below(at: vec3<u32>, tap: vec2<u32>) -> i32 {
    var y = i32(at.y);
    var x = i32(at.z);
    if convolution == INPUT {
        // From a pixel to the position that has it below the tap.
        y += i32(params.padding_y) - i32(tap.x);
        x += i32(params.padding_x) - i32(tap.y);
        if params.step_y * params.step_x > 1u {
            let step_y = i32(params.step_y);
            let step_x = i32(params.step_x);
            y = select(-1, y / step_y, y % step_y == 0);
            x = select(-1, x / step_x, x % step_x == 0);
        }
    } else {
        y = y * i32(params.step_y) + i32(tap.x) - i32(params.padding_y);
        x = x * i32(params.step_x) + i32(tap.y) - i32(params.padding_x);
    }
    let inside = y >= 0 && x >= 0 && y < i32(params.source_height) && x < i32(params.source_width);
    return select(-1, (i32(at.x) * i32(params.source_height) + y) * i32(params.source_width) + x, inside);
}

//% endif
// Where a workgroup works.
struct Place {
    row: u32,
    col: u32,
    // of the inner dimension
    begin: u32,
    end: u32,
    // of the outputs
    base_out: u32,
    base_sums: u32,
}

// Workgroups number tiles row by row, split by split; those that only fill up the grid lie below the last row.
fn place(group: vec3<u32>, groups: vec3<u32>, tile_rows: u32, tile_cols: u32) -> Place {
    let across = (params.cols + tile_cols - 1u) / tile_cols;
    let tiles = across * ((params.rows + tile_rows - 1u) / tile_rows);
    let which = linear_group(group, groups);
    let split = which / tiles;
    let tile = which % tiles;
    var at: Place;
    at.row = select(params.rows, tile / across * tile_rows, split < params.splits);
    at.col = tile % across * tile_cols;
    at.begin = split * params.depth;
    at.end = min(at.begin + params.depth, params.inner);
    at.base_out = group.z * params.stride_out + split * params.rows * params.cols;
    at.base_sums = group.z * params.stride_sums + split * params.rows;
    return at;
}

fn store(replica: u32, place: Place, row: u32, col: u32, sum: f32) {
    if !exact && (row >= params.rows || col >= params.cols) {
        return;
    }
    let at = row * params.cols + col;
    var value = params.alpha * sum;
    if has_addend {
        value += params.addend_scale * addend[replica * params.stride_addend + at];
    }
    if has_bias {
        value += bias[replica * params.stride_bias + col];
    }
    if has_bound {
        value = clamp(value, -params.bound, params.bound);
    }
    if activation != NONE {
        value = activate(activation, value);
    }
    if gate != NONE {
        value *= derivative(gate, saved[replica * params.stride_saved + at]);
    }
    if accumulate {
        value += out[place.base_out + at];
    }
    out[place.base_out + at] = value;
}

fn store_quad(replica: u32, place: Place, row: u32, col: u32, sum: vec4<f32>) {
    if !exact && (row >= params.rows || col >= params.cols) {
        return;
    }
    let at = row * params.cols + col;
    var value = params.alpha * sum;
    if has_addend {
        value += params.addend_scale * addend_quads[(replica * params.stride_addend + at) / 4u];
    }
    if has_bias {
        value += bias_quads[(replica * params.stride_bias + col) / 4u];
    }
    if has_bound {
        value = clamp(value, vec4<f32>(-params.bound), vec4<f32>(params.bound));
    }
    if activation != NONE {
        value = activate_quad(activation, value);
    }
    if gate != NONE {
        value *= derivative_quad(gate, saved_quads[(replica * params.stride_saved + at) / 4u]);
    }
    if accumulate {
        value += out_quads[(place.base_out + at) / 4u];
    }
    out_quads[(place.base_out + at) / 4u] = value;
}

fn store_sum(place: Place, row: u32, total: f32) {
    let at = place.base_sums + row;
    sums[at] = select(total, sums[at] + total, accumulate);
}
