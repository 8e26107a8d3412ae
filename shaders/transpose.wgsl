// Matrices transposed one by one; see src/ops/transpose.rs.
//% include "common.wgsl"

struct Params {
    // of a block of x
    rows: u32,
    cols: u32,
    blocks: u32,
    stride_x: u32,
    stride_out: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> x: array<f32>;
@group(1) @binding(2) var<storage, read_write> out: array<f32>;

// A column longer than the tile, so that reading down a column meets every bank.
var<workgroup> tile: array<array<f32, 33>, 32>;

// A workgroup turns a tile of 32 x 32, so that rows of x and rows of out are both read and written along.
@compute @workgroup_size(32, 8)
fn blocks(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) place: vec3<u32>,
) {
    let down = (params.rows + 31u) / 32u;
    let across = (params.cols + 31u) / 32u;
    let which = linear_group(group, groups);
    let block = which / (down * across);
    let row = which / across % down * 32u;
    let col = which % across * 32u;
    // Workgroups that only fill up the grid come after the last block.
    let is_inside = block < params.blocks;
    let base = block * params.rows * params.cols;
    for (var r = place.y; r < 32u; r += 8u) {
        if is_inside && row + r < params.rows && col + place.x < params.cols {
            tile[r][place.x] = x[group.z * params.stride_x + base + (row + r) * params.cols + col + place.x];
        }
    }
    workgroupBarrier();
    for (var c = place.y; c < 32u; c += 8u) {
        if is_inside && col + c < params.cols && row + place.x < params.rows {
            out[group.z * params.stride_out + base + (col + c) * params.rows + row + place.x] = tile[place.x][c];
        }
    }
}
