// Products for software adapters with subgroups of eight lanes; see src/ops/gemm.rs.
//% set kind = "broadcast"
//% set subgroups = true
//% set sizes = [(16, 4, 2), (32, 4, 1), (32, 4, 2), (64, 4, 1), (64, 2, 1)]
//% include "lanes.wgsl"
