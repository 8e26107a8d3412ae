// The products of a convolution, of factors in 16 bits by matrix units; see src/ops/convolution.rs.
enable f16;
enable wgpu_cooperative_matrix;
//% set half = true
//% set window = true
//% include "matrix.wgsl"
