//! Counter-based random numbers, the same bits on every executor.
//!
//! `pcg4d` of Jarzynski and Olano, "Hash Functions for GPU Rendering", JCGT 9(3), 2020: a keyed permutation of four
//! words. `shaders/common.wgsl` holds the same function.

/// Four random words from (element, stream, step, seed).
pub fn pcg4d(mut v: [u32; 4]) -> [u32; 4] {
    for x in &mut v {
        *x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    }
    let mix = |v: &mut [u32; 4]| {
        v[0] = v[0].wrapping_add(v[1].wrapping_mul(v[3]));
        v[1] = v[1].wrapping_add(v[2].wrapping_mul(v[0]));
        v[2] = v[2].wrapping_add(v[0].wrapping_mul(v[1]));
        v[3] = v[3].wrapping_add(v[1].wrapping_mul(v[2]));
    };
    mix(&mut v);
    for x in &mut v {
        *x ^= *x >> 16;
    }
    mix(&mut v);
    v
}

/// Uniform in [0, 1) on a grid of 2^-24, exact in f32 and f64 alike.
pub fn unit(bits: u32) -> f64 {
    f64::from(bits >> 8) / f64::from(1u32 << 24)
}

/// Stream of the augmentation draws; layers use their index, which is far below.
pub const AUGMENT_STREAM: u32 = 0xA06_0000;

/// Stream of the draws of a learned policy.
pub const POLICY_STREAM: u32 = AUGMENT_STREAM + 1;
