// The products of a convolution, for software adapters without subgroups; see src/ops/convolution.rs.
//% set window = true
//% set kind = "stream"
//% set subgroups = false
//% set sizes = [(16, 4, 2)]
//% include "lanes.wgsl"
