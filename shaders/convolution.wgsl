// The products of a convolution from tiles in workgroup memory, for GPUs; see src/ops/convolution.rs.
//% set window = true
//% set kind = "tile"
//% set real = "f32"
//% set sizes = [(16, 64, 1, 1), (64, 16, 1, 1), (32, 32, 1, 1), (64, 64, 2, 2), (128, 64, 2, 2)]
//% include "tiles.wgsl"
