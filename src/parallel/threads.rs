use rayon::prelude::*;

/// What `work` makes of each item, in their order.
pub(crate) fn map<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Send + Sync) -> Vec<R> {
    items.into_par_iter().map(work).collect()
}

/// Does `work` on each row of `width` values, with its index; a thread takes `least` rows or more at a time.
pub(crate) fn rows<T: Send>(
    values: &mut [T],
    width: usize,
    least: usize,
    work: impl Fn(usize, &mut [T]) + Send + Sync,
) {
    let rows = values.par_chunks_mut(width.max(1)).with_min_len(least);
    rows.enumerate().for_each(|(row, values)| work(row, values));
}
