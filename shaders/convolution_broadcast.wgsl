// The products of a convolution, for software adapters with subgroups of eight lanes; see src/ops/convolution.rs.
//% set window = true
//% set kind = "broadcast"
//% set subgroups = true
//% set sizes = [(16, 4, 2), (32, 4, 1), (32, 4, 2), (64, 4, 1)]
//% include "lanes.wgsl"
