//! What kernels are chosen by.

/// What the plan needs to know of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Whether the "GPU" is the CPU: lanes are SIMD lanes, shared memory is a detour through the cache.
    pub software: bool,
    /// Lanes of a subgroup, where kernels may pass values among them and every subgroup has as many.
    pub subgroup_lanes: Option<u32>,
    /// Whether shaders compute in 16 bits.
    pub half: bool,
    /// Side of the matrices that a subgroup multiplies as one, 16 bits in and 32 out, where the adapter has such units
    /// and every subgroup has as many lanes.
    pub matrix_side: Option<u32>,
    /// Most bytes in one binding or buffer.
    pub max_binding_bytes: u64,
    /// Multiple of bytes at which a binding may start.
    pub binding_alignment: u32,
}

impl Profile {
    /// The reference executor: no limits but memory. An allocation that fails ends the process without a word, so that
    /// tensors larger than anybody would wait for are refused.
    pub fn reference() -> Profile {
        Profile {
            software: true,
            subgroup_lanes: None,
            half: true,
            matrix_side: None,
            max_binding_bytes: 1 << 30,
            binding_alignment: 4,
        }
    }

    /// Whether subgroups are as wide as the kernels that pass values among eight lanes need.
    pub(super) fn has_eight_lanes(&self) -> bool {
        self.subgroup_lanes == Some(8)
    }
}
