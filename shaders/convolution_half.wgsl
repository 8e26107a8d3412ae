// The products of a convolution, of factors in 16 bits from tiles in workgroup memory; see src/ops/convolution.rs.
enable f16;
//% set half = true
//% set window = true
//% set kind = "half"
//% set real = "f16"
//% set sizes = [(32, 32, 1, 1), (64, 64, 2, 2), (128, 64, 2, 2)]
//% include "tiles.wgsl"
