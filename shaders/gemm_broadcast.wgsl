// Products for software adapters with subgroups of eight lanes; see src/ops/gemm.rs.
//% set kind = "broadcast"
//% set subgroups = true
//% set sizes = [(16, 2), (32, 1), (32, 2), (64, 1)]
//% include "lanes.wgsl"
