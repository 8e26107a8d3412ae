// Products of factors in 16 bits by matrix units; see src/ops/gemm.rs.
enable f16;
enable wgpu_cooperative_matrix;
//% set half = true
//% include "matrix.wgsl"
