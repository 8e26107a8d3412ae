//! Into how many partial sums a long sum with few outputs is cut (split-K): more workgroups, and still no atomics.

use super::profile::Profile;
use super::select::{BUSY_CPU, BUSY_GPU, broadcast, goes_by_tap, tile};
use super::variant::Outputs;
use crate::ops::{Correlate, Gemm, View};

/// Longest sum that one invocation adds up on a CPU. Mesa's software driver ends all loops of an invocation after 65535
/// rounds altogether, without a word (seen with 22.3); and in single precision so many terms lose digits.
const LONGEST_SUM: u32 = 1 << 14;

/// Rank that a cut assumes. The rank of an operation is the largest of all networks trained side by side; a cut that looked
/// at it would round a network otherwise than the same network alone.
const ASSUMED_RANK: u32 = 16;

/// Into how many splits the sums over the rows of x are cut, so that they keep the adapter busy; one if they are split already.
pub(super) fn column_splits(x: View, splits: u32, profile: &Profile) -> u32 {
    /// Below this a split costs more to add than it saves.
    const SHORTEST: u32 = 256;
    if splits > 1 {
        return 1;
    }
    let busy = if profile.software { BUSY_CPU } else { BUSY_GPU };
    (busy / x.cols().div_ceil(16)).min(x.rows() / SHORTEST).max(1)
}

/// Into how many splits the rows of a correlation are cut. As with [`splits`], neither replicas nor ranks play a part in it.
pub(super) fn correlation_splits(op: &Correlate, profile: &Profile) -> u32 {
    /// Below this a split costs more to add than it saves.
    const SHORTEST: u32 = 128;
    if op.splits > 1 {
        return 1;
    }
    if profile.software {
        /// Errors that a pool has sent are sparse: shifted by the first row, most rows are the same, and equal terms
        /// round the same way each time.
        const LONGEST: u32 = 1 << 10;
        return op.x.rows().div_ceil(LONGEST).max(1);
    }
    let inputs = op.hebbian.map_or(0, |h| h.input.cols());
    let busy = (op.x.cols() + ASSUMED_RANK + inputs).div_ceil(64) * ASSUMED_RANK.div_ceil(16);
    (BUSY_GPU / busy.max(1)).min(op.x.rows() / SHORTEST).max(1)
}

/// Into how many splits the sums of a product are cut (split-K), so that tall thin products keep a GPU busy. Another cut rounds
/// otherwise: it must not depend on what is trained beside a network, so that it looks at one replica, and not at those of
/// rows, columns and inner length that are `ranked`.
pub(super) fn splits(gemm: &Gemm, ranked: [bool; 3], profile: &Profile) -> u32 {
    /// Below this a split costs more to add than it saves.
    const SHORTEST: u32 = 256;
    if gemm.splits > 1 {
        return 1;
    }
    let [rows, cols] = [(gemm.rows(), ranked[0]), (gemm.cols(), ranked[1])]
        .map(|(extent, is_rank)| if is_rank { ASSUMED_RANK } else { extent });
    let outputs = Outputs { rows, cols, copies: 1 };
    if profile.software {
        return splits_for_cpu(gemm, outputs, ranked, profile);
    }
    // A sum over ranks is short.
    if ranked[2] {
        return 1;
    }
    let busy = tile(outputs).workgroups(outputs);
    (BUSY_GPU / busy.max(1)).min(gemm.inner() / SHORTEST).max(1)
}

fn splits_for_cpu(gemm: &Gemm, outputs: Outputs, ranked: [bool; 3], profile: &Profile) -> u32 {
    /// Workgroups that keep the few threads busy.
    const BUSY: u32 = 8;
    /// Below this a split costs more to add than it saves.
    const SHORTEST: u32 = 4096;
    if goes_by_tap(gemm) {
        return 1;
    }
    // More than one invocation may add is cut in any case: that the driver gets it right comes first.
    let longest = gemm.inner().div_ceil(LONGEST_SUM).max(1);
    if ranked[2] {
        return longest;
    }
    let workgroups = broadcast(outputs, gemm.convolution.is_some()).workgroups(outputs);
    let idle = (BUSY / workgroups.max(1)).min(gemm.inner() / SHORTEST);
    let splits = idle.max(longest);
    // Not more than one binding holds.
    let fitting = profile.max_binding_bytes / (4 * u64::from(outputs.rows) * u64::from(outputs.cols)).max(1);
    let for_cache = || splits_for_cache(gemm, outputs, ranked).min(u32::try_from(fitting).unwrap_or(u32::MAX));
    if gemm.transpose_a { splits.max(for_cache()) } else { splits }
}

/// A transposed factor and what it is multiplied by are read from their first row to their last by every tile, in wide matrices a
/// page a row: in splits that stay in a core's cache until all tiles have read them, unless the partial sums would be larger than
/// the factors.
fn splits_for_cache(gemm: &Gemm, outputs: Outputs, ranked: [bool; 3]) -> u32 {
    /// Floats of both factors, three quarters of what cores of servers have for themselves.
    const CACHE: u64 = 768 << 8;
    /// Below this the sums are stored and added too often.
    const SHORTEST: u64 = 512;
    /// Fewer splits than wanted, but no fewer than these: a quarter faster at 1152 x 384 x 4160, and no faster in two. Of
    /// convolutions nobody has measured it.
    const WORTHWHILE: u64 = 4;
    let [rows, cols, inner] = [outputs.rows, outputs.cols, gemm.inner()].map(u64::from);
    let [a, b] = [(gemm.a.cols(), ranked[0]), (gemm.b.cols(), ranked[1])]
        .map(|(width, is_rank)| u64::from(if is_rank { ASSUMED_RANK } else { width }));
    let wanted = (inner * (a + b)).div_ceil(CACHE);
    let most = (inner / SHORTEST).min(inner * (a + b) / (rows * cols).max(1));
    let pays = wanted <= most || gemm.convolution.is_none() && most >= WORTHWHILE;
    if pays { wanted.min(most).max(1) as u32 } else { 1 }
}
