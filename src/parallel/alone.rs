/// What `work` makes of each item, in their order.
pub(crate) fn map<T, R>(items: Vec<T>, work: impl Fn(T) -> R) -> Vec<R> {
    items.into_iter().map(work).collect()
}

/// Does `work` on each row of `width` values, with its index.
pub(crate) fn rows<T>(values: &mut [T], width: usize, _: usize, work: impl Fn(usize, &mut [T])) {
    values.chunks_mut(width.max(1)).enumerate().for_each(|(row, values)| work(row, values));
}
