// Products for software adapters without subgroups; see src/ops/gemm.rs.
//% set kind = "stream"
//% set subgroups = false
//% set sizes = [(16, 4, 2)]
//% include "lanes.wgsl"
